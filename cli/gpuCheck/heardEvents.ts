import type { Finding, StepEvent, StepReport } from '../../bench/gpuCheck/report.js';
import type { AdapterInfo } from '../../engine/adapterInfo.js';

/** Collects what a step tells, so that nothing is lost where it ends early. */
export class HeardEvents {
  readonly findings: Finding[] = [];
  readonly metrics: StepReport['metrics'][number][] = [];
  readonly tables: StepReport['tables'][number][] = [];
  readonly details = new Map<string, unknown>();
  adapter: AdapterInfo | undefined;
  refused: { readonly message: string; readonly fix: string } | undefined;
  /** Undefined until the step says so. */
  end: 'done' | 'failed' | undefined;
  /** What it is at. */
  at = '';
  #last = performance.now();

  /** Seconds since the step last said something. */
  get silence(): number {
    return (performance.now() - this.#last) / 1000;
  }

  hear(event: StepEvent): void {
    this.#last = performance.now();
    if ('finding' in event) this.findings.push(event.finding);
    else if ('metric' in event) this.metrics.push(event.metric);
    else if ('table' in event) this.tables.push(event.table);
    else if ('detail' in event) this.details.set(...event.detail);
    else if ('adapter' in event) this.adapter = event.adapter;
    else if ('refused' in event) this.refused = event.refused;
    else if ('at' in event) this.at = event.at;
    else this.end = event.end;
  }
}
