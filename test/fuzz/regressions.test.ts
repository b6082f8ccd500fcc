// Every input of test/fuzz/regressions once made the program crash, hang or throw something else than an RmError. Costs 3 s.
//   test/fuzz/regressions/TARGET/INPUT      a slash in TARGET is a dash
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { root } from '../packed.js';
import { Prober } from './campaign.js';
import { isFault } from './target.js';
import { targets } from './targets/index.js';

const folder = join(root, 'test', 'fuzz', 'regressions');
const prober = new Prober();
test.after(() => prober.stop());

for (const name of readdirSync(folder)) {
  test(name, async () => {
    const module = Object.entries(targets).find(([target]) => target.replaceAll('/', '-') === name)?.[1];
    assert.ok(module, `there is no target ${name}`);
    for (const file of readdirSync(join(folder, name)).sort()) {
      const outcome = await prober.outcome(module, readFileSync(join(folder, name, file)));
      assert.not(isFault(outcome), `${file}: ${isFault(outcome) ? outcome.message : ''}`);
    }
  });
}

test.run();
