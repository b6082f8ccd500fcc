/**
 * `rm-engine serve` in a process of its own, with two models, and its page in Chromium. Costs 8 s.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { shippedPath } from '../../replaceme/index.js';
import { axeSource, everyRule, openBrowser, violations } from '../browser.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { rmEngine } from './support.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const folder = temporaryFolder();
const pruned = join(folder.path, 'pruned');
let child: ChildProcess;
let address: string;
let said = '';

test.before(async () => {
  cpSync(shippedPath('demo-model'), pruned, { recursive: true });
  const args = ['serve', pruned, '--against', shippedPath('demo-model'), '--port', '0'];
  child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stderr!.setEncoding('utf8').on('data', text => {
    said += text;
  });
  [address] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
});

test.after(() => {
  child.kill('SIGKILL');
  folder[Symbol.dispose]();
});

test('both models answer at the address that it prints, on this machine alone', async () => {
  assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/);
  const { data } = (await (await fetch(`${address}/v1/models`)).json()) as { data: { id: string }[] };
  assert.equal(
    data.map(({ id }) => id),
    ['pruned', 'demo-model'],
  );
  const texts = await Promise.all(
    data.map(async ({ id }) => {
      const response = await fetch(`${address}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: id, prompt: 'It is a truth', max_tokens: 6, temperature: 0 }),
      });
      const { choices } = (await response.json()) as { choices: { text: string }[] };
      return choices[0]!.text;
    }),
  );
  assert.is(texts[0], texts[1], 'they are the same model');
  assert.match(said, /serves pruned and demo-model/);
});

let browser: Browser | undefined;
try {
  browser = await openBrowser();
} catch (error) {
  saySkipped(`the page of serve in Chromium: ${(error as Error).message.split('\n')[0]}`);
}
test.after(() => browser?.close());

if (browser) {
  const on = browser;
  test('the page: by keyboard to both models, accessible, narrow and wide, light and dark, nothing from elsewhere', async () => {
    for (const [width, colorScheme] of [
      [1280, 'light'],
      [360, 'dark'],
    ] as const) {
      const context = await on.newContext({ viewport: { width, height: 800 }, colorScheme });
      await context.addInitScript({ content: axeSource() });
      const page = await context.newPage();
      const noise: string[] = [];
      page.on('console', message => noise.push(message.text()));
      page.on('pageerror', error => noise.push(error.message));
      page.on('request', request => !request.url().startsWith(address) && noise.push(request.url()));
      await page.goto(address);
      await page.getByRole('heading', { name: 'demo-model' }).waitFor();
      assert.equal(await violations(page, everyRule), [], `${width}, ${colorScheme}`);
      await page.keyboard.press('Tab');
      assert.is(await page.evaluate('document.activeElement.id'), 'message');
      await page.getByLabel('New tokens at most').fill('8');
      await page.getByLabel('Message').focus();
      await page.keyboard.type('It is a truth <b>universally</b>');
      await page.keyboard.press('Enter');
      await page.getByRole('status').filter({ hasText: 'Answered' }).waitFor();
      const answers = await page.locator('.turn.model p:not(.count)').allInnerTexts();
      assert.is(answers.length, 2);
      assert.is(answers[0], answers[1]);
      assert.ok(answers[0]!.trim().length > 3, answers[0]!);
      assert.match(await page.locator('.count').first().innerText(), /^8 tokens, .*cut at the most tokens$/);
      assert.is(await page.locator('.turn b').count(), 0, 'what was typed is no HTML');
      assert.equal(await violations(page, everyRule), [], `${width}, ${colorScheme}, with answers`);
      assert.is(await page.evaluate('document.documentElement.scrollWidth'), width);
      const shots = process.env.RM_SCREENSHOTS;
      if (shots) await page.screenshot({ path: join(shots, `serve-${width}.png`) });

      await page.getByLabel('New tokens at most').fill('400');
      await page.getByLabel('Message').fill('Go on');
      await page.getByRole('button', { name: 'Send' }).click();
      await page.locator('.turn.model').nth(3).locator('p').first().filter({ hasText: /\w/ }).waitFor();
      await page.getByRole('button', { name: 'Stop' }).click();
      await page.getByRole('status').filter({ hasText: 'Stopped' }).waitFor();
      await page.getByRole('button', { name: 'New conversation' }).click();
      assert.is(await page.locator('.turn').count(), 0);
      assert.equal(noise, []);
      await context.close();
    }
  });
}

test('Ctrl-C ends it at once, also while it writes', async () => {
  const response = await fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'It is', max_tokens: 490, stream: true, ignore_eos: true }),
  });
  await response.body!.getReader().read();
  child.kill('SIGINT');
  const [status] = await once(child, 'close');
  assert.is(status, 130);
  assert.not.match(said, /error|at file:/);
});

test('what cannot be served is said before anything is loaded', async () => {
  const { status, stderr } = await rmEngine(['serve', pruned, '--port', '99999']);
  assert.is(status, 2);
  assert.match(stderr, /--port/);
});

test.run();
