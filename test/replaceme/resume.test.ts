import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/errors.js';
import { seededRandom } from '../../engine/random.js';
import { type PruneOptions, type PruneReport, prune } from '../../replaceme/index.js';
import { checkpointPath, markFinished } from '../../replaceme/resume/pruneCheckpoint.js';
import { RunJournal } from '../../replaceme/resume/runJournal.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped } from '../support.js';
import { options, workplace } from './workplace.js';

const script = fileURLToPath(new URL('./runInProcess.js', import.meta.url));

interface Ended {
  readonly lines: readonly string[];
  readonly killed: boolean;
  readonly status: number | null;
}

/**
 * Runs a prune in a process of its own and kills it some time after it has done so many batches; where it would begin
 * to write its output it is held until then, so that no run is too fast to be killed.
 */
function run(
  model: string,
  out: string,
  wanted: PruneOptions,
  kill?: { readonly batches: number; readonly ms: number },
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, model, out, JSON.stringify(wanted)], {
      stdio: [kill ? 'pipe' : 'ignore', 'pipe', 'inherit'],
    });
    let said = '';
    let timer: NodeJS.Timeout | undefined;
    const lines = () => said.split('\n').slice(0, -1);
    // A run that was killed reads no answers.
    child.stdin?.on('error', () => {});
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (!kill) return;
      const writes = text.startsWith('write');
      if (writes || batchesIn(lines()).length >= kill.batches)
        timer ??= setTimeout(() => child.kill('SIGKILL'), kill.ms);
      if (!writes) child.stdin!.write('\n');
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ lines: lines(), status, killed: signal === 'SIGKILL' });
    });
  });
}

/** What walks over tokens have said: each line a batch that is done. One with 0 done announces a step. */
const batchesIn = (lines: readonly string[]): string[] =>
  lines.filter(
    line =>
      !/^(load|write|fit|samples|generate|windows|candidates|finalists|notice|report|similarity|perplexity)| 0\/\d+$/.test(
        line,
      ),
  );

/** report.json as it lies on the disk. */
type StoredReport = PruneReport & { sha256?: string };

/** A report without what time and memory it took. */
function lasting({
  seconds,
  date,
  phases,
  peakMemoryBytes,
  plan,
  extent: { fullShare: __, ...extent },
  sha256: _,
  ...report
}: StoredReport): unknown {
  assert.ok(seconds > 0 && date.length > 0 && phases.length > 0 && peakMemoryBytes > 0);
  const models = report.evaluation?.models.map(({ tokensPerSecond, ...rest }) => rest);
  return {
    ...report,
    extent,
    plan: { ...plan, phases: undefined },
    evaluation: { ...report.evaluation, models },
  };
}

const parsed = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as StoredReport;

/** The same files with the same bytes; of the report what does not depend on time. */
function assertSame(found: string, expected: string): void {
  const names = readdirSync(expected).sort();
  assert.equal(readdirSync(found).sort(), names);
  for (const name of names) {
    const [a, b] = [join(found, name), join(expected, name)];
    if (name === 'report.json') assert.equal(lasting(parsed(a)), lasting(parsed(b)));
    else if (name !== 'report.html') assert.ok(readFileSync(a).equals(readFileSync(b)), `${name} differs`);
  }
}

/** Kills a run at random moments and resumes it until it is done. */
async function killAndResume(wanted: PruneOptions, kills: number, seed: number, change = {}): Promise<void> {
  using place = await workplace(change);
  const folder = (name: string) => {
    mkdirSync(join(place.path, name));
    return join(place.path, name, 'pruned');
  };
  const all = options(place.calibration, { checkpointEvery: 0, resume: true, ...wanted });
  const whole = await run(place.model, folder('whole'), all);
  assert.is(whole.status, 0, whole.lines.at(-1));
  const expected = batchesIn(whole.lines);
  const random = seededRandom(seed);
  const out = folder('killed');
  const said: string[] = [];
  let [killed, left] = [0, kills];
  for (;;) {
    // Spread over what is left to do, with a batch for each kill to come.
    const rest = expected.length - said.length;
    const drawn = Math.max(0, Math.min(Math.floor((random() * 2 * rest) / (left + 1)), rest - left - 1));
    // The last one strikes while the output is written.
    const batches = left === 1 ? Number.POSITIVE_INFINITY : drawn;
    const ended = await run(place.model, out, all, left > 0 ? { batches, ms: 60 * random() } : undefined);
    said.push(...batchesIn(ended.lines));
    if (!ended.killed) {
      assert.is(ended.status, 0, ended.lines.at(-1));
      break;
    }
    killed++;
    left--;
    assert.not(existsSync(out), 'nothing is written before the end');
  }
  assert.is(killed, kills);
  assertSame(out, join(place.path, 'whole', 'pruned'));
  assert.equal(readdirSync(join(place.path, 'killed')), ['pruned'], 'nothing else is left');
  // A batch that was said to be done is never done again.
  const counted = new Map<string, number>();
  for (const line of expected) counted.set(line, (counted.get(line) ?? 0) + 1);
  for (const line of said) {
    const count = (counted.get(line) ?? 0) - 1;
    assert.ok(count >= 0, `${line} is done again`);
    counted.set(line, count);
  }
  assert.ok(said.length >= expected.length - killed, `${said.length} of ${expected.length} batches`);
  console.log(`${killed} kills, ${said.length} of ${expected.length} batches said to be done`);
}

const KILLS = Number(process.env.RM_KILLS ?? 6);

test('refit-heal with measured selection, killed at random moments: the same bytes, no batch twice', () =>
  killAndResume({ method: 'refit-heal', tokens: 1024, batchTokens: 256, evaluationTokens: 128 }, KILLS, 3));

test('a streamed run with hidden states on the host', () =>
  killAndResume(
    { method: 'refit-heal', select: 'cosine', batchTokens: 64, report: 'none', memoryLimit: 560_000 },
    Math.ceil(KILLS / 4),
    5,
    {
      config: {
        num_hidden_layers: 16,
        hidden_size: 64,
        intermediate_size: 64,
        head_dim: 16,
        _layer_marks: undefined,
      },
    },
  ));

test('Adam, and several windows by least squares on text that the model has written', async () => {
  const few = { batchTokens: 256, report: 'none' } as const;
  await killAndResume(
    { ...few, method: 'replaceme-cosine', cosine: { epochs: 3, shuffle: true } },
    Math.ceil(KILLS / 4),
    7,
  );
  const two = {
    method: 'replaceme-ls',
    windows: 2,
    apart: true,
    tokens: 256,
    generate: 300,
    sequenceLength: 32,
  };
  await killAndResume({ ...few, ...two }, Math.ceil(KILLS / 4), 11);
  const transplant = { method: 'transplant-heal', select: 'cosine', windows: 2, apart: true };
  await killAndResume({ ...few, ...transplant }, Math.ceil(KILLS / 4), 13);
});

test('neurons by pursuit, and a choice of what is healed', () => {
  const healed = { select: 'cosine', heal: { closedForm: 'auto' } } as const;
  const wanted = { method: 'transplant', neurons: 'omp', ...healed } as const;
  return killAndResume({ ...wanted, batchTokens: 256, report: 'none' }, Math.ceil(KILLS / 4), 17);
});

/** A run that was killed when it had done something. */
async function killed(model: string, out: string, wanted: PruneOptions): Promise<void> {
  const ended = await run(model, out, wanted, { batches: 12, ms: 0 });
  assert.ok(ended.killed);
}

const few = {
  method: 'refit-heal',
  window: 1,
  checkpointEvery: 0,
  batchTokens: 256,
  report: 'none',
} as const;

test('what is left is not lost without a word: resume, restart, or another run', async () => {
  using place = await workplace();
  const wanted = options(place.calibration, few);
  const fresh = await run(place.model, place.out, { ...wanted, resume: true, checkpoint: true });
  assert.is(fresh.status, 0);
  assert.match(fresh.lines.join('\n'), /notice: there is no checkpoint to go on from: beginning anew/);
  mkdirSync(join(place.path, 'again'));
  const out = join(place.path, 'again', 'pruned');
  await killed(place.model, out, wanted);
  const said = async (more: PruneOptions) =>
    (await run(place.model, out, { ...wanted, ...more })).lines.at(-1)!;
  assert.match(
    await said({}),
    /error: OUTPUT_EXISTS .*again.pruned\.checkpoint: an interrupted run has left its state there/,
  );
  assert.match(await said({ resume: true, restart: true }), /error: INVALID_ARGUMENT/);
  assert.match(await said({ resume: true, checkpoint: false }), /error: INVALID_ARGUMENT/);
  assert.match(await said({ checkpointEvery: -1 }), /error: INVALID_ARGUMENT/);
  assert.match(
    await said({ resume: true, sinkWeight: 0.5 }),
    /error: INVALID_ARGUMENT .*differs from this run in the settings: .* there, .*"sinkWeight":0.5.* now/,
  );
  assert.match(
    await said({ resume: true, tokens: 512 }),
    /differs from this run in the number of tokens: 1024 there, 512 now/,
  );
  const again = await run(place.model, out, { ...wanted, resume: true });
  assert.is(again.status, 0);
  assert.match(again.lines[0]!, /notice: going on from .*again.pruned\.checkpoint/);
  assertSame(out, place.out);
  await killed(place.model, join(place.path, 'third'), wanted);
  const third = await run(place.model, join(place.path, 'third'), { ...wanted, restart: true });
  assert.is(third.status, 0);
  assert.equal(batchesIn(third.lines), batchesIn(fresh.lines));
  assert.equal(place.left(), ['again', 'calibration.txt', 'model', 'pruned', 'third']);
});

test('what a run had half written that died on another machine goes with the resumed run', async () => {
  using place = await workplace();
  const wanted = options(place.calibration, few);
  const ended = await run(place.model, place.out, wanted, { batches: Number.POSITIVE_INFINITY, ms: 0 });
  assert.ok(ended.killed);
  // As if it had been there, more than a minute ago.
  const half = place.left().find(name => name.startsWith('.rm-engine-'))!;
  const mark = createHash('sha256').update('elsewhere').digest('hex').slice(0, 8);
  renameSync(join(place.path, half), join(place.path, half.replace(/-[0-9a-f]{8}-/, `-${mark}-`)));
  const lock = join(checkpointPath(place.out), 'lock');
  writeFileSync(lock, JSON.stringify({ ...JSON.parse(readFileSync(lock, 'utf8')), host: 'elsewhere' }));
  utimesSync(lock, 0, 0);
  const again = await run(place.model, place.out, { ...wanted, resume: true });
  assert.is(again.status, 0, again.lines.at(-1));
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned']);
});

test('killed between giving the output its name and removing the checkpoint: nothing is left to do', async () => {
  using place = await workplace();
  const wanted = options(place.calibration, few);
  assert.is((await run(place.model, place.out, wanted)).status, 0);
  // What such a run leaves.
  const journal = RunJournal.begin(undefined as never, checkpointPath(place.out), { every: 0 });
  await journal.save();
  await markFinished(journal, place.out, place.out);
  await journal.leave();
  const again = await run(place.model, place.out, { ...wanted, resume: true });
  assert.is(again.status, 0, again.lines.at(-1));
  assert.is(again.lines.length, 1, 'only the report');
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned']);
  // Another output in the same place is in the way as ever.
  await journal.save();
  await journal.leave();
  writeFileSync(join(place.out, 'report.json'), '{}');
  const other = await run(place.model, place.out, { ...wanted, resume: true });
  assert.match(other.lines.at(-1)!, /error: OUTPUT_EXISTS/);
});

test('a full disk: the run goes on without saving, and says so once', async () => {
  using place = await workplace();
  const wanted = options(place.calibration, few);
  const out = join(place.path, 'pruned');
  await killed(place.model, out, wanted);
  const folder = join(place.path, 'disk');
  const result = join(place.path, 'result');
  mkdirSync(folder);
  mkdirSync(result);
  const words = [script, place.model, join(folder, 'pruned'), JSON.stringify({ ...wanted, resume: true })];
  // A disk of its own, full but for the few bytes of a lock.
  const full = `mount -t tmpfs -o size=8m tmpfs "$0" || exit 77
    cp -r "$1" "$0/pruned.checkpoint"; head -c 9m /dev/zero > "$0/filler" 2> /dev/null; truncate -s -12K "$0/filler"
    "\${@:3}"; echo "status: $?"; ls -A "$0"; cp -r "$0/pruned" "$2"`;
  const { stdout } = spawnSync(
    'unshare',
    ['-rm', 'bash', '-c', full, folder, checkpointPath(out), result, process.execPath, ...words],
    { encoding: 'utf8' },
  );
  if (!stdout?.includes('status:')) {
    saySkipped('a prune on a full disk: no tmpfs can be mounted here');
    return;
  }
  const notices = [...stdout.matchAll(/^notice: the run goes on, but could not be resumed: (.*)$/gm)];
  assert.is(notices.length, 1, stdout);
  assert.match(notices[0]![1]!, /pruned\.checkpoint: cannot be written: the disk is full/);
  // What was kept before has made room for the output.
  assert.match(stdout, /status: 0\nfiller\npruned\n$/);
  const whole = join(place.path, 'whole', 'pruned');
  await prune(place.model, whole, { ...wanted, checkpointEvery: 60 });
  assertSame(join(result, 'pruned'), whole);
});

test('a disk that is full while the output is written: nothing of it is there, the next run only writes', async () => {
  using place = await workplace();
  if (!existsSync('/dev/full')) {
    saySkipped('a full disk while the output is written: no /dev/full');
    return;
  }
  const notices: string[] = [];
  const phases = new Set<string>();
  const wanted = options(place.calibration, {
    ...few,
    onNotice: text => notices.push(text),
    onProgress: ({ phase, done, unit }) => done > 0 && unit !== 'layers' && phases.add(phase),
  });
  const message = await rejectsWith(
    () =>
      prune(place.model, place.out, {
        ...wanted,
        onProgress: ({ phase }) => {
          const unfinished = readdirSync(place.path).find(name => name.startsWith('.rm-engine-'));
          if (phase !== 'write' || !unfinished) return;
          const config = join(place.path, unfinished, 'config.json');
          if (!existsSync(config)) symlinkSync('/dev/full', config);
        },
      }),
    'OUTPUT_FAILED',
  );
  assert.match(message, 'the disk is full');
  assert.match(notices.join(), /finished work is kept in .*pruned\.checkpoint: `resume` goes on from there/);
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned.checkpoint']);
  await prune(place.model, place.out, { ...wanted, resume: true });
  assert.equal([...phases], ['load', 'write']);
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned']);
});

test('a shard that is cut while its layers are streamed ends the run with its name, and leaves its state', async () => {
  using place = await workplace({
    config: {
      num_hidden_layers: 16,
      hidden_size: 64,
      intermediate_size: 64,
      head_dim: 16,
      _layer_marks: undefined,
    },
    maxShardBytes: 150_000,
  });
  const wanted = options(place.calibration, { ...few, batchTokens: 64, memoryLimit: 560_000 });
  const shards = readdirSync(place.model)
    .filter(name => name.endsWith('.safetensors'))
    .sort();
  const path = join(place.model, shards.at(-1)!);
  const bytes = readFileSync(path);
  let cut = false;
  let error: unknown;
  const notices: string[] = [];
  try {
    await prune(place.model, place.out, {
      ...wanted,
      onNotice: text => notices.push(text),
      onProgress: ({ phase }) => {
        if (cut || !phase.startsWith('heal')) return;
        cut = true;
        truncateSync(path, 1000);
      },
    });
  } catch (thrown) {
    error = thrown;
  }
  assert.instance(error, RmError);
  assert.is((error as RmError).code, 'CHECKPOINT_CORRUPT');
  assert.match((error as RmError).message, shards.at(-1)!);
  assert.match(notices.join(), /is kept in .*pruned\.checkpoint/);
  assert.not(existsSync(place.out));
  writeFileSync(path, bytes);
  await prune(place.model, place.out, { ...wanted, resume: true });
  const whole = join(place.path, 'whole', 'pruned');
  await prune(place.model, whole, { ...wanted, checkpointEvery: 60 });
  assertSame(place.out, whole);
});

test.run();
