/**
 * What README.md and docs/library.md show, word for word, in an empty folder with the packed package. A server on this machine answers for the
 * Hugging Face hub: the demo model under the name of the model that the README downloads.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { findBundledDriver, hasVulkan } from '../engine/softwareDriver.js';
import { openBrowser } from './browser.js';
import { startHub } from './model/hubServer.js';
import { pack, root, runIn } from './packed.js';
import { saySkipped, temporaryFolder } from './support.js';

interface Block {
  /** "newcomer", "newcomer-without-driver", "newcomer=FILE". */
  readonly mark: string;
  readonly text: string;
}

/** Fenced blocks whose language is followed by a mark that begins with "newcomer", in order. */
const blocks: Block[] = ['README.md', 'docs/library.md'].flatMap(page =>
  [...readFileSync(join(root, page), 'utf8').matchAll(/^```\w+ (newcomer\S*)\n([\s\S]*?)^```$/gm)].map(
    ([, mark, text]) => ({ mark: mark!, text: text! }),
  ),
);

/** The demo model behind a local hub, and an empty cache: the commands that follow see both by their environment. */
async function serveDemoModel(folder: string) {
  const model = join(root, 'assets/demo-model');
  const files = new Map(readdirSync(model).map(name => [name, readFileSync(join(model, name))]));
  const hub = await startHub(files, undefined, 'HuggingFaceTB/SmolLM2-135M-Instruct');
  Object.assign(process.env, { HF_ENDPOINT: hub.url, HF_HUB_CACHE: join(folder, 'hub') });
  return hub;
}

/** Opens a page as a reader would: from the disk, without a network. It must show text and complain of nothing. */
async function openReport(path: string): Promise<void> {
  if (!findBundledDriver()) return saySkipped('no Chromium for this platform: the report was not opened');
  const browser = await openBrowser();
  try {
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('pageerror', error => complaints.push(String(error)));
    page.on('console', message => message.type() === 'error' && complaints.push(message.text()));
    page.on('request', request => !/^(file|data):/.test(request.url()) && complaints.push(request.url()));
    await page.goto(pathToFileURL(path).href);
    assert.match(await page.locator('h1').first().innerText(), /\w/);
    assert.match(await page.locator('body').innerText(), /4 of 12 layers/);
    assert.equal(complaints, []);
  } finally {
    await browser.close();
  }
}

test('the program has 15 lines, and the README names the tested driver', () => {
  const program = blocks.find(({ mark }) => mark === 'newcomer=shorter.mjs')!;
  assert.is(program.text.trim().split('\n').filter(Boolean).length, 15);
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const driver = blocks.find(({ mark }) => mark === 'newcomer-without-driver')!;
  assert.match(driver.text, `@sparticuz/chromium@${devDependencies['@sparticuz/chromium']}\n`);
});

test('the newcomer’s script, word for word', async () => {
  using folder = temporaryFolder();
  await pack(folder.path);
  // Dependencies from npm's cache where they are there: a registry may be far.
  writeFileSync(
    join(folder.path, '.npmrc'),
    'prefer-offline=true\naudit=false\nfund=false\nignore-scripts=true\n',
  );
  const hub = await serveDemoModel(folder.path);
  const printed: string[] = [];
  for (const { mark, text } of blocks) {
    if (mark === 'newcomer-without-driver' && hasVulkan()) continue;
    const file = /^newcomer=(.+)$/.exec(mark)?.[1];
    if (file) {
      writeFileSync(join(folder.path, file), text);
      continue;
    }
    for (const line of text.trim().split('\n')) {
      const { status, stdout, stderr } = await runIn(folder.path, 'sh', ['-c', line]);
      // Where there is no driver, doctor says so, and the next block helps.
      const fails = line === 'npx rm-engine doctor' && mark === 'newcomer' && !hasVulkan();
      assert.is(status, fails ? 1 : 0, `${line}\n${stdout}\n${stderr}`);
      printed.push(stdout);
    }
  }
  await hub.close();
  const all = printed.join('\n');
  assert.match(all, /4 of 12 layers/);
  assert.match(all, /KL/i);
  assert.match(all, /3 of 12 layers/);
  assert.match(all, /It was a .{10}/);
  for (const path of [
    'pruned/config.json',
    'pruned/model.safetensors',
    'pruned/report.html',
    'pruned.gguf',
    'shorter/config.json',
  ])
    assert.ok(existsSync(join(folder.path, path)), path);
  await openReport(join(folder.path, 'pruned/report.html'));
});

test.run();
