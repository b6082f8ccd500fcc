import {
  asBytes,
  type Device,
  downloadF32,
  Scope,
  seededRandom,
  type Tensor,
  upload,
} from '../../engine/index.js';
import {
  type DoubleSingle,
  disposeDoubleSingle,
  downloadF64,
  solveRidgePath,
  solveSpd,
  uploadF64,
} from '../../kernels/index.js';
import { ridgeSolve, solveSeconds } from '../../replaceme/index.js';
import { digits, left, right } from '../measure.js';
import { predictedSpeed } from './predictions.js';
import type { StepRun } from './stepRun.js';

/**
 * The Kac-Murdock-Szego matrix decay^|i-j|, whose inverse is tridiagonal: solutions are known in closed form, for any
 * condition number.
 */
const kms = (n: number, decay: number): Float64Array => {
  const powers = Float64Array.from({ length: n }, (_, distance) => decay ** distance);
  const values = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) values[i * n + j] = powers[Math.abs(i - j)]!;
  return values;
};

/** Element (i, j) of its inverse. */
function kmsInverse(n: number, decay: number, i: number, j: number): number {
  // 1 - decay^2 without cancellation.
  const scale = 1 / ((1 - decay) * (1 + decay));
  if (Math.abs(i - j) > 1) return 0;
  if (i !== j) return -decay * scale;
  return i === 0 || i === n - 1 ? scale : (1 + decay * decay) * scale;
}

/** The decay at which such a matrix has about this condition: its largest eigenvalue is below n. */
const decayOf = (n: number, condition: number): number => 1 - (2 * n) / condition;

interface SolveSizes {
  readonly what: string;
  readonly n: number;
  readonly columns: number;
  readonly decay: number;
  /** Largest accepted relative error of the solution. */
  readonly accepted: number;
}

/** Solves for the first columns of the inverse in double-single. */
async function solveKnown(device: Device, { n, columns, decay }: SolveSizes) {
  using scope = new Scope(device);
  const owned = ({ hi, lo }: DoubleSingle) => ({ hi: scope.own(hi), lo: scope.own(lo) });
  const a = owned(await uploadF64(device, kms(n, decay), [n, n], 'A'));
  const unit = new Float64Array(n * columns);
  for (let j = 0; j < columns; j++) unit[j * columns + j] = 1;
  const b = owned(await uploadF64(device, unit, [n, columns], 'B'));
  await device.recorder.finish();
  const started = performance.now();
  const { x, report } = await solveSpd(device, a, b);
  await device.recorder.finish();
  const seconds = (performance.now() - started) / 1000;
  const values = await downloadF64(x);
  disposeDoubleSingle(x);
  let [difference, norm] = [0, 0];
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < columns; j++) {
      const expected = kmsInverse(n, decay, i, j);
      difference += (values[i * columns + j]! - expected) ** 2;
      norm += expected ** 2;
    }
  }
  return { report, seconds, error: Math.sqrt(difference / norm) };
}

/** Rows that are uploaded at a time. */
const ROWS = 256;

/** decay^|i-j| in f32, uploaded by rows: each is a part of one vector. */
async function uploadKms(tensor: Tensor, decay: number): Promise<void> {
  const n = tensor.columns;
  const mirrored = Float32Array.from({ length: 2 * n - 1 }, (_, i) => decay ** Math.abs(i - (n - 1)));
  for (let first = 0; first < n; first += ROWS) {
    const count = Math.min(ROWS, n - first);
    const rows = new Float32Array(count * n);
    for (let i = 0; i < count; i++)
      rows.set(mirrored.subarray(n - 1 - first - i, 2 * n - 1 - first - i), i * n);
    await upload(tensor.rows(first, count), asBytes(rows));
  }
}

interface Solved {
  readonly seconds: number;
  readonly error: number;
  readonly more?: string;
  readonly predicted?: number | undefined;
}

const RIDGE = 0.1;
const RIDGE_COLUMNS = 16;
const RIDGE_DECAY = 0.9;
/** Rows of the residual that the host computes. */
const CHECKED_ROWS = 64;

/** A ridge regression in f32; its error is that of 64 rows of (G + ridge I) X - C, computed on the host. */
async function solveRidge(device: Device, n: number, columns: number) {
  using scope = new Scope(device);
  const gram = scope.tensor([n, n], 'f32', 'G');
  await uploadKms(gram, RIDGE_DECAY);
  const cross = scope.tensor([n, columns], 'f32', 'C');
  const random = seededRandom(3);
  const c = Float32Array.from({ length: n * columns }, () => random() - 0.5);
  await upload(cross, asBytes(c));
  await device.recorder.finish();
  const started = performance.now();
  for await (const { x } of solveRidgePath(device, gram, cross, [RIDGE])) {
    await device.recorder.finish();
    const seconds = (performance.now() - started) / 1000;
    const values = await downloadF32(x);
    x.dispose();
    let [difference, norm] = [0, 0];
    for (let row = 0; row < CHECKED_ROWS; row++) {
      const i = Math.floor((row * n) / CHECKED_ROWS);
      for (let column = 0; column < columns; column++) {
        let sum = RIDGE * values[i * columns + column]!;
        for (let j = 0; j < n; j++)
          sum += Math.fround(RIDGE_DECAY ** Math.abs(i - j)) * values[j * columns + column]!;
        difference += (sum - c[i * columns + column]!) ** 2;
        norm += c[i * columns + column]! ** 2;
      }
    }
    return { seconds, error: Math.sqrt(difference / norm) };
  }
  throw new Error('a path of one ridge has one solution');
}

/** Solves as large as those of 8B models, against closed forms. */
export async function solveStep(run: StepRun): Promise<void> {
  const opened = await run.open();
  const software = opened.info.kind === 'software';
  await opened.close();
  const [large, ridge, hard] = software ? [96, 128, 64] : [4096, 14336, 1024];
  const known: SolveSizes[] = [
    {
      what: `double-single, n = ${large}`,
      n: large,
      columns: software ? 16 : 256,
      decay: 0.99,
      accepted: 1e-6,
    },
    {
      what: `double-single, n = ${hard}, condition 1e9`,
      ...{ n: hard, columns: 16, decay: decayOf(hard, 1e9), accepted: 1e-4 },
    },
  ];
  const rows: string[][] = [];
  const tell = (
    what: string,
    { seconds, error, accepted, more = '', predicted }: Solved & { accepted: number },
  ) => {
    run.metric(`${what}, time`, seconds, 's', { predicted });
    run.metric(`${what}, error`, error, '', { better: 'lower' });
    // Written so that NaN is wrong.
    if (!(error <= accepted))
      run.wrong(
        `${what}: relative error ${error.toExponential(1)}, accepted are ${accepted.toExponential(1)}`,
      );
    rows.push([what, digits(seconds), error.toExponential(1), more]);
  };
  for (const sizes of known) {
    if (run.left <= 0) {
      run.note(`no time for: ${sizes.what}`);
      continue;
    }
    await run.piece(sizes.what, async device => {
      const { report, seconds, error } = await solveKnown(device, sizes);
      const { relativeResidual, conditionEstimate } = report;
      const more = `residual ${relativeResidual.toExponential(1)}, condition about ${conditionEstimate.toExponential(0)}`;
      tell(sizes.what, { seconds, error, accepted: sizes.accepted, more });
    });
  }
  const what = `ridge in f32, n = ${ridge}`;
  if (run.left > 0) {
    await run.piece(what, async device => {
      const speed = predictedSpeed(run, device);
      const flops = ridgeSolve(ridge, RIDGE_COLUMNS);
      tell(what, {
        ...(await solveRidge(device, ridge, RIDGE_COLUMNS)),
        accepted: 1e-4,
        predicted: speed && solveSeconds(speed, { flops, bytes: 4 * ridge ** 2 }),
      });
    });
  } else run.note(`no time for: ${what}`);
  run.table('Solves', {
    columns: [left('system'), right('s'), right('error'), left('more')],
    rows,
  });
}
