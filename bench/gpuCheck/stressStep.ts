import { type Device, download, formatBytes, Scope, Tensor } from '../../engine/index.js';
import { sampledMatmul } from '../../kernels/index.js';
import { digits, left, right } from '../measure.js';
import { probeNothing } from '../probes.js';
import type { StepRun } from './stepRun.js';

const SUBMITS = 5000;
const PRODUCT_SECONDS = 15;
/** Share of the step's time that the products may take. */
const PRODUCT_SHARE = 0.7;
const GIB = 2 ** 30;
/** Held to compare what the driver reports with what is accounted. */
const HELD = GIB;
/** Drivers report in large pieces. */
const ACCEPTED_SHARE = 0.25;
const ACCEPTED_REST = GIB / 4;

/** Repeats one product for some seconds and compares the bits of its last row. */
async function repeatProducts(run: StepRun, device: Device, seconds: number): Promise<number> {
  const software = device.info.kind === 'software';
  const [m, n, k] = software ? [64, 128, 128] : [2048, 4096, 4096];
  using scope = new Scope(device);
  const prepared = await sampledMatmul({ form: 'NT', m, n, k, b: 'bf16' }).setup(scope);
  const last = () => download(prepared.output.rows(m - 1, 1));
  prepared.run(device.recorder);
  const expected = await last();
  const started = performance.now();
  let products = 0;
  while (performance.now() - started < 1000 * seconds) {
    for (let i = 0; i < 20; i++, products++) prepared.run(device.recorder);
    if (Buffer.compare(expected, await last()) !== 0) {
      run.wrong(
        `a product repeated ${products} times gave other bits`,
        'Check the cooling, the clocks and the memory of the card.',
      );
      return products;
    }
  }
  return products;
}

/** Seconds of many short submits. */
async function manySubmits(device: Device): Promise<number> {
  using out = Tensor.create(device, [1], 'u32');
  const started = performance.now();
  for (let i = 0; i < SUBMITS; i++) {
    probeNothing(device.recorder, out);
    device.recorder.flush();
    if (i % 500 === 499) await device.recorder.finish();
  }
  await device.recorder.finish();
  return (performance.now() - started) / 1000;
}

/** Frees what the pool keeps; destroyed buffers are free only after the next submit. */
async function giveBack(device: Device): Promise<void> {
  device.memory.trim();
  using out = Tensor.create(device, [1], 'u32');
  probeNothing(device.recorder, out);
  await device.recorder.finish();
}

/** Free bytes as the driver reports them; undefined on a software adapter, and where the host's memory is used. */
async function reportedFree(device: Device): Promise<number | undefined> {
  const card = await device.readCard();
  return card?.unified ? undefined : card?.free;
}

/** Holds memory, and compares what the driver says of it with what is accounted. */
async function compareAccounts(run: StepRun, device: Device): Promise<string[][]> {
  const before = await reportedFree(device);
  if (before === undefined) return [['memory as the driver reports it', 'not known']];
  const accounted = device.memory.liveBytes + device.memory.pooledBytes;
  const pieces = Array.from({ length: HELD / (256 << 20) }, () => Tensor.create(device, [64 << 20]));
  for (const piece of pieces) device.recorder.clear(piece);
  await device.recorder.finish();
  const held = device.memory.liveBytes + device.memory.pooledBytes - accounted;
  const during = (await reportedFree(device)) ?? before;
  for (const piece of pieces) piece.dispose();
  await giveBack(device);
  const after = (await reportedFree(device)) ?? before;
  run.detail('memory', { before, during, after, held });
  if (Math.abs(before - during - held) > ACCEPTED_SHARE * held)
    run.warn(
      `${formatBytes(held)} are accounted, and the driver reports ${formatBytes(Math.max(0, before - during))}`,
    );
  if (before - after > ACCEPTED_REST)
    run.warn(
      `${formatBytes(before - after)} were not given back to the driver; other programs may have taken them`,
    );
  return [
    [
      'memory accounted, as the driver reports it',
      `${formatBytes(held)}, ${formatBytes(Math.max(0, before - during))}`,
    ],
    ['memory not given back, as the driver reports it', formatBytes(Math.max(0, before - after))],
  ];
}

/** Long work, many submits, and whether all memory comes back. */
export async function stressStep(run: StepRun): Promise<void> {
  const rows: string[][] = [];
  await run.piece('stress', async device => {
    await giveBack(device);
    const start = device.memory.liveBytes;
    const seconds = Math.min(PRODUCT_SECONDS, PRODUCT_SHARE * run.left);
    run.at(`products for ${Math.round(seconds)} s`);
    const products = await repeatProducts(run, device, seconds);
    run.metric('products a second', products / seconds, '1/s');
    rows.push([`products in ${digits(seconds)} s, each with the same bits`, `${products}`]);
    run.at(`${SUBMITS} submits`);
    const submitting = await manySubmits(device);
    run.metric('a submit', (1e6 * submitting) / SUBMITS, 'us');
    rows.push([`${SUBMITS} submits`, `${digits(submitting)} s`]);
    await giveBack(device);
    const rest = device.memory.liveBytes - start;
    if (rest !== 0) run.wrong(`${formatBytes(Math.abs(rest))} of device memory did not come back`);
    rows.push(['device memory that did not come back', formatBytes(Math.max(0, rest))]);
    rows.push(...(await compareAccounts(run, device)));
  });
  run.table('Stress', { columns: [left('what'), right('found')], rows });
}
