// scripts/gpuCompilers.mjs with tools that only print what compilers print: nothing is compiled. 5 s.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { multiplyAddShares } from '../replaceme/planning/hotLoops.js';
import { temporaryFolder } from './support.js';

/** What each driver says of one pipeline with these spills and this scratch. */
const statistics = {
  'nvidia:172': (spills: number, scratch: number) =>
    `Spills to memory=${spills}|Fills from memory=9|Spills to reg=7|SLM size=${scratch}`,
  'amd:navi31': (spills: number, scratch: number) =>
    `SGPRs=108|VGPRs=36|Spilled SGPRs=1|Spilled VGPRs=${spills - 1}|LDS size=1024|Scratch size=${scratch}`,
  'amd:navi21': () => 'Spilled SGPRs=0|Spilled VGPRs=0|Scratch size=0',
  apple: (spills: number, scratch: number) =>
    `GPRs=75|Scratch=${scratch}|Threads=704|Spills=${spills}|Fills=3`,
};
type Chip = keyof typeof statistics;

const log = (chip: Chip, spills: number, scratch: number) => `
@@@device {"info":{"description":"Mesa 26"}}
@@@key small
@@@stat compute|subgroup=32|${statistics[chip](0, 0).replace('Spilled SGPRs=1|Spilled VGPRs=-1', 'Spilled VGPRs=0')}
@@@key large
@@@stat compute|subgroup=32|${statistics[chip](spills, scratch)}
`;

const list = {
  'nvidia:172': { mesa: 'Mesa 26', programs: { large: { spills: 5, scratch: 64 } } },
  'amd:navi31': { mesa: 'Mesa 26', programs: { large: { spills: 5, scratch: 64 } } },
  'amd:navi21': { mesa: 'Mesa 26', programs: {} },
  apple: { mesa: 'Mesa 26', programs: { large: { spills: 5, scratch: 64 } } },
};

/** Runs the script where the tools run these lines of a shell for a chip. */
function run(commands: Partial<Record<Chip | 'lavapipe', string>>, ...args: string[]) {
  using folder = temporaryFolder();
  const [scripts, tools] = [join(folder.path, 'project/scripts'), join(folder.path, 'shared/gpu/codegen')];
  for (const path of [scripts, tools]) mkdirSync(path, { recursive: true });
  for (const name of ['gpuCompilers.mjs', 'mesaChips.mjs'])
    copyFileSync(join('scripts', name), join(scripts, name));
  writeFileSync(join(scripts, 'gpuCompilers.json'), JSON.stringify(list));
  const all = { lavapipe: "echo '9 passed, 0 failed, 0 skipped'", ...commands };
  for (const chip of Object.keys(statistics) as Chip[]) {
    writeFileSync(join(tools, chip), log(chip, 5, 64));
    all[chip] ??= `cat '${join(tools, chip)}' >&2`;
  }
  const cases = Object.entries(all).map(([chip, lines]) => `${chip}) ${lines} ;;`);
  writeFileSync(join(tools, 'mesa26.sh'), `#!/bin/bash\ncase $3 in\n${cases.join('\n')}\nesac\n`);
  chmodSync(join(tools, 'mesa26.sh'), 0o755);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(scripts, 'gpuCompilers.mjs'), join(folder.path, 'root'), ...args],
    { encoding: 'utf8' },
  );
  const written = JSON.parse(readFileSync(join(scripts, 'gpuCompilers.json'), 'utf8')) as typeof list;
  return { status, stdout, stderr, last: stdout.trimEnd().split('\n').at(-1), written };
}
const says = (chip: Chip, spills: number, scratch: number) => `echo '${log(chip, spills, scratch)}' >&2`;

test('what the list allows passes', () => {
  const { status, last, stderr } = run({});
  assert.is(last, '17 passed, 0 failed', stderr);
  assert.is(status, 0);
});

test('more spills or scratch than the list allows fail, on every chip', () => {
  for (const chip of ['nvidia:172', 'amd:navi31', 'apple'] as const) {
    for (const [spills, scratch] of [
      [6, 64],
      [5, 68],
    ] as const) {
      const { status, stdout, last } = run({ [chip]: says(chip, spills, scratch) });
      assert.is(last, '16 passed, 1 failed');
      assert.match(
        stdout,
        `FAILED ${chip}: large: ${spills} spills and ${scratch} bytes of scratch; the list allows 5`,
      );
      assert.is(status, 1);
    }
  }
});

test('programs that a validation or a driver refuses, a crash and missing statistics fail', () => {
  const refused = run({ apple: `echo 'FAIL matmul NT [tiled]: no such type'; ${says('apple', 0, 0)}` });
  assert.match(refused.stdout, 'FAILED apple: matmul NT [tiled]: FAIL matmul NT [tiled]: no such type');
  assert.is(refused.last, '16 passed, 1 failed');
  const driver = run({ apple: `${says('apple', 0, 0)}; echo '@@@vkresult -3' >&2` });
  assert.match(driver.stdout, 'FAILED apple: large: the driver refuses it: @@@vkresult -3');
  const crash = run({ apple: `${says('apple', 0, 0)}; kill -SEGV $$` });
  assert.match(crash.stdout, "FAILED apple: the whole: ended with SIGSEGV, at program 'large'");
  assert.is(crash.status, 1);
  assert.match(run({ apple: 'true' }).stdout, 'FAILED apple: the whole: no statistics of any program');
});

test('a hang is cut off and reported; what it started ends too', () => {
  const started = performance.now();
  const { status, stdout } = run({ apple: `${says('apple', 0, 0)}; sleep 60 & wait` }, '--seconds', '2');
  assert.match(stdout, "FAILED apple: the whole: cut off after 2 s, at program 'large'");
  assert.is(status, 1);
  assert.ok(performance.now() - started < 40_000);
});

test('tests that fail or crash fail', () => {
  assert.is(run({ lavapipe: "echo '7 passed, 2 failed, 0 skipped'; exit 1" }).last, '15 passed, 2 failed');
  assert.match(run({ lavapipe: 'exit 3' }).stdout, 'FAILED lavapipe: ended with exit code 3');
});

test('--write makes a list of what was found', () => {
  const { status, written } = run({ apple: says('apple', 8, 128) }, '--write');
  assert.is(status, 0);
  const expected = { ...list, apple: { mesa: 'Mesa 26', programs: { large: { spills: 8, scratch: 128 } } } };
  assert.equal(written, expected);
});

test('the model of speed has the shares that the compilers reported', () => {
  const reported = JSON.parse(readFileSync('scripts/gpuReports.json', 'utf8'));
  for (const [vendor, loops] of Object.entries(multiplyAddShares))
    for (const [loop, share] of Object.entries(loops))
      assert.ok(
        Math.abs(reported[vendor][loop] - share) <= 0.0051,
        `${vendor} ${loop}: ${reported[vendor][loop]}`,
      );
});

test('the hot block: the most multiply-adds or matrices between two branches, without hints', async () => {
  const { hotBlock } = await import(join(process.cwd(), 'scripts/hotBlock.mjs'));
  const amd = `BB0:
\tv_fma_f32 v0, v1, v2, v0
BB1:
\ts_delay_alu instid0(VALU_DEP_1)
\tv_fma_f32 v0, v1, v2, v0
\tv_dual_fmac_f32 v0, v1, v2
\tds_load_b64 v[0:1], v2
BB2:
\tv_add_f32 v0, v1, v2
`;
  assert.equal(hotBlock('amd:x', amd), { instructions: 3, vector: 2, multiplyAdds: 2, matrices: 0 });
  const nvidia = `block.u 1 [0] -> {
  r0..4     = hmma.m16n8k16.f32 r1..5 r2..4 r0..4 // delay=1
              nop // delay=9
  r5        = mov r6 // delay=1
} -> [2]
block 2 [1] -> {
  r0 = ffma r1 r2 r0
  r0 = ffma r1 r2 r0
} -> [3]`;
  assert.equal(hotBlock('nvidia:x', nvidia), { instructions: 2, vector: 2, multiplyAdds: 0, matrices: 1 });
});

test.run();
