/** A step of `gpu-check` in a process of its own: a driver that crashes or hangs takes nothing else with it. */
import type { StepEvent, StepInput } from '../../bench/gpuCheck/report.js';
import { RmError } from '../../engine/errors.js';
import { reasonOf } from '../../engine/reasons.js';

let over = false;

process.on('disconnect', () => {
  if (over) return;
  // Nobody wants to know any more: this ends with all that it has started.
  try {
    process.kill(-process.pid, 'SIGKILL');
  } catch {
    process.exit(1);
  }
});

const send = (event: StepEvent): void => {
  process.send!(event);
};

process.once('message', async message => {
  const input = message as StepInput;
  const [{ steps }, { NoGpu, StepRun }] = await Promise.all([
    import('../../bench/gpuCheck/steps.js'),
    import('../../bench/gpuCheck/stepRun.js'),
  ]);
  let end: 'done' | 'failed' = 'done';
  try {
    await steps[input.step](new StepRun(input, send));
  } catch (error) {
    end = 'failed';
    if (error instanceof NoGpu || (error instanceof RmError && error.code === 'ADAPTER_NONE'))
      send({ refused: { message: error.message, fix: error.fix } });
    else if (error instanceof RmError)
      send({ finding: { level: 'wrong', text: `${error.message} (${error.code})`, fix: error.fix } });
    else send({ finding: { level: 'wrong', text: reasonOf(error) } });
    process.stderr.write(error instanceof Error ? (error.stack ?? '') : '');
  }
  // Sent in order, so this is the last.
  over = true;
  process.send!({ end }, () => process.disconnect());
});
