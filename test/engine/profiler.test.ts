import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, Tensor } from '../../engine/index.js';
import { add, axpy } from '../../kernels/map/named.js';
import { saySkipped, temporaryFolder } from '../support.js';

const device = await Device.open({ profile: true });
const { profiler, recorder: rec } = device;
test.after(() => device.close());

if (!profiler) saySkipped('the adapter has no timestamp queries, nothing is profiled');

/** Three additions outside of sections, one in "outer", two in "outer/inner" with an axpy. */
function record(): void {
  using a = Tensor.create(device, [1000]);
  using b = Tensor.create(device, [1000]);
  using c = Tensor.create(device, [1000]);
  rec.clear(a);
  rec.clear(b);
  for (let i = 0; i < 3; i++) add(rec, a, b, c);
  using _outer = device.section('outer');
  {
    using _inner = device.section('inner');
    add(rec, a, b, c);
    add(rec, a, b, c);
    axpy(rec, 2, a, c);
  }
  add(rec, a, b, c);
}

if (profiler) {
  test('totals by kernel and by section', async () => {
    profiler.reset();
    record();
    const kernels = await profiler.table();
    assert.equal(kernels.map(({ calls }) => calls).sort(), [1, 6]);
    const adds = kernels.find(({ calls }) => calls === 6)!;
    assert.match(adds.kernel, /^add/);
    assert.is(adds.bytes, 6 * 12 * 1000);
    assert.ok(kernels.every(({ milliseconds }) => milliseconds > 0 && milliseconds < 1000));
    for (let i = 1; i < kernels.length; i++) {
      assert.ok(kernels[i - 1]!.milliseconds >= kernels[i]!.milliseconds, 'slowest first');
    }
    const sections = await profiler.sections();
    assert.equal(
      sections.map(({ section, kernels: own }) => [section, own.reduce((sum, { calls }) => sum + calls, 0)]),
      [
        ['outer', 1],
        ['outer/inner', 3],
        ['', 3],
      ],
    );
    const [outer, inner, outside] = sections;
    assert.ok(outer!.wallMilliseconds >= inner!.wallMilliseconds);
    assert.is(outside!.wallMilliseconds, 0);
    const sum = (list: readonly { milliseconds: number }[]) =>
      list.reduce((total, { milliseconds }) => total + milliseconds, 0);
    assert.ok(Math.abs(sum(sections) - sum(kernels)) < 1e-9 * sum(kernels) + 1e-9);
  });

  test('reset forgets', async () => {
    record();
    await profiler.table();
    profiler.reset();
    assert.equal(await profiler.table(), []);
    assert.equal(await profiler.sections(), []);
  });

  test('a trace: every dispatch as an event, sections as spans that hold them', async () => {
    using folder = temporaryFolder();
    profiler.reset();
    record();
    const path = join(folder.path, 'trace.json');
    assert.equal(await profiler.writeTrace(path), { written: 7, dropped: 0 });
    const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as {
      traceEvents: { name: string; ph: string; tid: number; ts: number; dur: number; args?: object }[];
    };
    const complete = traceEvents.filter(({ ph }) => ph === 'X');
    const dispatches = complete.filter(({ tid }) => tid === 2);
    assert.is(dispatches.length, 7);
    assert.is(dispatches[0]!.ts, 0);
    assert.ok(dispatches.every(({ ts, dur }) => ts >= 0 && dur >= 0));
    assert.equal(Object.keys(dispatches[0]!.args!), ['flops', 'bytes']);
    const spans = complete.filter(({ tid }) => tid === 1);
    assert.equal(
      spans.map(({ name }) => name),
      ['outer', 'inner'],
    );
    const [outer, inner] = spans;
    // Microseconds as the format wants them; the timestamps are whole nanoseconds.
    const nanoseconds = (microseconds: number) => Math.round(1000 * microseconds);
    const within = (event: { ts: number; dur: number }, span: { ts: number; dur: number }) =>
      nanoseconds(event.ts) >= nanoseconds(span.ts) &&
      nanoseconds(event.ts + event.dur) <= nanoseconds(span.ts + span.dur);
    assert.ok(within(inner!, outer!), 'the inner one lies within the outer one');
    assert.is(dispatches.filter(event => within(event, inner!)).length, 3);
  });

  test('more dispatches than one set of queries holds', async () => {
    profiler.reset();
    using a = Tensor.create(device, [4]);
    using b = Tensor.create(device, [4]);
    using c = Tensor.create(device, [4]);
    rec.clear(a);
    rec.clear(b);
    const submits = rec.submits;
    for (let i = 0; i < 2500; i++) add(rec, a, b, c);
    const [only] = await profiler.table();
    assert.is(only!.calls, 2500);
    assert.ok(rec.submits - submits >= 2);
  });
}

test('without a profiler sections cost nothing and do nothing', async () => {
  await using plain = await Device.open();
  assert.is(plain.profiler, undefined);
  using _section = plain.section('any');
  assert.is(plain.section('a'), plain.section('b'));
});

test.run();
