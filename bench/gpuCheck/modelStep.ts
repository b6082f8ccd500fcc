import { type Device, downloadF32, Scope } from '../../engine/index.js';
import { Batch, finalNorm, forward, Model, tokenLogits } from '../../model/index.js';
import { prefillSeconds, tokenSeconds } from '../../replaceme/index.js';
import { benchDecode } from '../decode.js';
import { digits, left, right, wallTime } from '../measure.js';
import { benchPrefill, prefill, someTokens } from '../prefill.js';
import { predictedSpeed } from './predictions.js';
import type { StepRun } from './stepRun.js';
import { syntheticFolder } from './syntheticModel.js';

const NAME = 'made-up model';

/** Milliseconds of a forward pass on the host and of waiting for it. */
async function dividedForward(model: Model, ids: readonly number[]) {
  const { device } = model;
  const { recorder } = device;
  const before = recorder.submits;
  using scope = new Scope(device);
  using batch = new Batch(device, [ids]);
  const at = [performance.now()];
  const hidden = scope.own(forward(model, batch, { lastToken: true }));
  const logits = scope.own(tokenLogits(model, scope.own(finalNorm(model, hidden))));
  at.push(performance.now());
  recorder.flush();
  at.push(performance.now());
  await recorder.finish();
  at.push(performance.now());
  const submits = recorder.submits - before;
  const values = await downloadF32(logits);
  const [record, submit, wait] = [1, 2, 3].map(i => at[i]! - at[i - 1]!) as [number, number, number];
  return { record, submit, wait, submits, finite: values.every(Number.isFinite) };
}

/** Loads the model and runs it once. @returns the model, with milliseconds of compiling and of the first pass. */
async function loadAndRun(device: Device, folder: string, tokens: number) {
  let loaded: Model | undefined;
  const load = await wallTime(async () => {
    loaded = await Model.load(device, folder);
  });
  const model = loaded!;
  const before = device.programs.compileMilliseconds;
  const first = await wallTime(() => prefill(model, someTokens(tokens, model.arch.vocab)));
  return { model, load, first, compiling: device.programs.compileMilliseconds - before };
}

async function measureModel(run: StepRun, device: Device, folder: string, tell: Tell): Promise<void> {
  const software = device.info.kind === 'software';
  const lengths = software ? [64, 128, 256] : [128, 1024, 4096];
  const { model, load, first, compiling } = await loadAndRun(device, folder, lengths[0]!);
  using _model = model;
  const bytes = [...model.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  tell('load', bytes / load / 1e6, 'GB/s');
  tell('first pass, before the driver has compiled', first, 'ms');
  tell('of it compiling', compiling, 'ms');
  const speed = predictedSpeed(run, device);
  for (const tokens of lengths) {
    if (run.left <= 0) return run.note(`no time for a prefill of ${tokens} tokens`);
    const { tokensPerSecond, gflops } = await benchPrefill(model, NAME, { tokens, samples: 3 });
    const predicted = speed && tokens / prefillSeconds(speed, model.arch, tokens);
    tell(`prefill ${tokens}`, tokensPerSecond, 'tokens/s', predicted);
    run.metric(`prefill ${tokens}, arithmetic`, gflops / 1000, 'TFLOP/s');
  }
  const parts = await dividedForward(model, someTokens(lengths[1]!, model.arch.vocab));
  if (!parts.finite) run.wrong('the logits of the made-up model are not finite');
  tell(`forward ${lengths[1]}: recording`, parts.record, 'ms');
  tell(`forward ${lengths[1]}: submitting`, parts.submit, 'ms');
  tell(`forward ${lengths[1]}: waiting`, parts.wait, 'ms');
  run.metric(`forward ${lengths[1]}: submits`, parts.submits, '', { better: 'lower' });
  if (run.left <= 0) return run.note('no time to decode');
  const tokens = software ? 32 : 128;
  const decode = await benchDecode(model, NAME, { tokens, sequenceLength: 512 });
  const behind = decode.promptTokens + tokens / 2;
  const predicted = speed && 1 / tokenSeconds(speed, model.arch, behind);
  tell(`decode ${tokens}`, decode.tokensPerSecond, 'tokens/s', predicted);
  tell('decode, weights read', decode.weightGigabytes, 'GB/s');
}

type Tell = (name: string, value: number, unit: string, predicted?: number) => void;

/** A made-up model of 1.2 billion weights: loading, prefill, decoding, and where the time goes. */
export async function modelStep(run: StepRun): Promise<void> {
  const opened = await run.open();
  const software = opened.info.kind === 'software';
  await opened.close();
  const folder = await syntheticFolder(run, software);
  if (folder === undefined) return;
  const rows: string[][] = [];
  const tell: Tell = (name, value, unit, predicted) => {
    run.metric(name, value, unit, { predicted });
    rows.push([name, digits(value), unit]);
  };
  await run.piece('model', device => measureModel(run, device, folder, tell));
  if (run.left > 0) {
    await run.piece('compiling again', async device => {
      const { model, first, compiling } = await loadAndRun(device, folder, software ? 64 : 128);
      model.dispose();
      tell('first pass, once the driver has compiled', first, 'ms');
      tell('of it compiling again', compiling, 'ms');
    });
  }
  run.table(software ? 'A small made-up model' : 'A made-up model of 1.2 billion weights (bf16)', {
    columns: [left('what'), right('value'), left('unit')],
    rows,
  });
}
