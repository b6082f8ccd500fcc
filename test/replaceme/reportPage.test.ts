import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { reportPage } from '../../replaceme/report/page/page.js';
import { heatColours, palette } from '../../replaceme/report/page/palette.js';
import type { Report } from '../../replaceme/report/schema/schema.js';
import { axeSource, everyRule, openBrowser, violations } from '../browser.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { compareFixture, evalFixture, healFixture, pruneFixture } from './reportFixture.js';

const fixtures: Readonly<Record<string, Report>> = {
  prune: pruneFixture,
  heal: healFixture,
  compare: compareFixture,
  eval: evalFixture,
};
/** The plots that a page of such a report must have. */
const plots: Readonly<Record<string, readonly string[]>> = {
  prune: [
    ...['layers', 'damage-ordinary', 'damage-sinks', 'loss-by-position', 'added-loss', 'windows-cosine'],
    ...['windows-residual', 'ridge-fit', 'ridge-healing', 'healing-loss', 'healing-gradient', 'phases'],
  ],
  heal: ['healing-loss', 'healing-gradient', 'phases'],
  compare: [
    ...['comparison', 'damage-ordinary', 'damage-sinks', 'loss-by-position', 'added-loss', 'windows-cosine'],
    ...['windows-residual', 'ridge-fit', 'ridge-healing', 'phases'],
  ],
  eval: ['tasks', 'phases'],
};
const pages = new Map<string, string>();
for (const [name, report] of Object.entries(fixtures)) pages.set(name, await reportPage(report));

test('pages: one file each that asks for nothing, within 500 KB, with no words of the report taken for HTML', () => {
  for (const [name, page] of pages) {
    assert.ok(Buffer.byteLength(page) < 500_000, `${name}: ${Buffer.byteLength(page)} bytes`);
    assert.not.match(page, /<(script|img|link|iframe|object)/i);
    assert.not.match(page, /\s(style|on\w+)="/i, 'the policy lets no style attribute and no handler through');
    assert.not.match(page, /url\(|@import/i);
    assert.ok(page.includes('&lt;script&gt;window.harmed'), 'what the report says is there to read');
    const ids = [...page.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id);
    assert.is(new Set(ids).size, ids.length, 'ids are unique');
  }
});

test('a report with little in it: nothing measured, one layer removed by request', async () => {
  const { evaluation, windowMap, plan, healing, ...bare } = pruneFixture;
  const page = await reportPage({
    ...bare,
    ...{ ridgePaths: [], phases: [], warnings: [], fit: {} },
    selection: { windows: [{ layer: 3, count: 1 }], by: 'request' },
  });
  assert.not.match(page, /undefined|NaN|How good/);
  assert.match(page, /Chosen by request/);
  const empty = await reportPage({
    ...compareFixture,
    rows: [],
    windowMap: undefined,
    samples: undefined,
  } as never);
  assert.not.match(empty, /undefined|NaN|Infinity/);
});

/** WCAG's contrast of two colours. */
function contrast(a: string, b: string): number {
  const light = (colour: string) =>
    channels(colour)
      .map(channel => channel / 255)
      .map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
      .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k]!, 0);
  const [low, high] = [light(a), light(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

test('colours: enough contrast on both grounds, each its own in drawings', () => {
  for (const ground of ['light', 'dark'] as const) {
    const on = (name: keyof typeof palette) => contrast(palette[name][ground], palette.ground[ground]);
    for (const name of ['ink', 'muted', 'blue', 'vermillion', 'green', 'purple'] as const) {
      assert.ok(on(name) >= 4.5, `${name} on ${ground}: ${on(name)}`);
    }
    assert.ok(on('axis') >= 3, `axis on ${ground}: ${on('axis')}`);
    assert.ok(contrast(palette.muted[ground], palette.shade[ground]) >= 4.5);
    assert.ok(contrast(heatColours[0]![ground], palette.ground[ground]) >= 7, 'the nearest stands out');
  }
  const light = [...Object.values(palette), ...heatColours].map(colour => colour.light);
  assert.is(new Set(light).size, light.length, 'a colour of a drawing stands for one of the dark ones');
});

const channels = (colour: string) => [1, 3, 5].map(at => Number.parseInt(colour.slice(at, at + 2), 16));
/** As browsers say it. */
const rgb = (colour: string): string => `rgb(${channels(colour).join(', ')})`;

let browser: Browser | undefined;
try {
  browser = await openBrowser();
} catch (error) {
  saySkipped(`pages of reports in Chromium: ${(error as Error).message.split('\n')[0]}`);
}
test.after(() => browser?.close());
const inBrowser = (name: string, body: (on: Browser) => Promise<void>) => {
  if (browser) test(name, () => body(browser!));
};

/** What a narrow screen or another ground can change. */
const someRules = ['color-contrast', 'scrollable-region-focusable', 'target-size', 'link-in-text-block'];

interface Opened {
  readonly page: Page;
  /** Said on the console, asked of the network, thrown. */
  readonly noise: string[];
}

async function open(
  on: Browser,
  file: string,
  width: number,
  colorScheme: 'light' | 'dark',
): Promise<Opened> {
  const context = await on.newContext({ viewport: { width, height: 900 }, colorScheme });
  // Kept out of the page's own world by no policy, since it comes before the page.
  await context.addInitScript({ content: axeSource() });
  const page = await context.newPage();
  const noise: string[] = [];
  const url = pathToFileURL(file).href;
  page.on('console', message => noise.push(`console: ${message.text()}`));
  page.on('pageerror', error => noise.push(`error: ${error.message}`));
  page.on('request', request => request.url() !== url && noise.push(`request: ${request.url()}`));
  await page.goto(url);
  return { page, noise };
}

inBrowser('in Chromium: plots are there, nothing is asked for, axe has nothing to say', async on => {
  using folder = temporaryFolder();
  for (const [name, html] of pages) {
    const file = join(folder.path, `${name}.html`);
    writeFileSync(file, html);
    for (const scheme of ['light', 'dark'] as const) {
      const { page, noise } = await open(on, file, 1280, scheme);
      assert.is(await page.evaluate('window.harmed'), undefined);
      for (const id of plots[name]!) {
        const box = await page.locator(`svg[aria-labelledby="${id}-title"]`).boundingBox();
        assert.ok(box && box.width > 200 && box.height > 40, `${name}: plot ${id} is ${JSON.stringify(box)}`);
      }
      assert.is(await page.locator('svg').count(), plots[name]!.length);
      const ground = await page.evaluate('getComputedStyle(document.body).backgroundColor');
      assert.is(ground, rgb(palette.ground[scheme]), 'the policy lets the style sheet through');
      await page.evaluate("for (const element of document.querySelectorAll('details')) element.open = true");
      assert.equal(
        await violations(page, scheme === 'light' ? everyRule : someRules),
        [],
        `${name}, ${scheme}`,
      );
      assert.equal(noise, [], `${name}, ${scheme}`);
      await page.context().close();
    }
  }
});

inBrowser('in Chromium: narrow screens, paper and the keyboard', async on => {
  using folder = temporaryFolder();
  for (const [name, html] of pages) {
    const file = join(folder.path, `${name}.html`);
    writeFileSync(file, html);
    const { page, noise } = await open(on, file, 360, 'dark');
    const width = () => page.evaluate<number>('document.documentElement.scrollWidth');
    assert.is(await width(), 360, `${name} is as wide as the screen`);
    await page.evaluate("for (const element of document.querySelectorAll('details')) element.open = true");
    assert.is(await width(), 360, `${name} with its tables open`);
    assert.equal(await violations(page, someRules), [], `${name}, narrow`);

    await page.keyboard.press('Tab');
    const focused = await page.evaluate<[string, string, string]>(
      '[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle, getComputedStyle(document.activeElement).outlineWidth]',
    );
    assert.equal(focused, ['A', 'solid', '3px'], 'the first stop is the contents, and it shows');

    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    assert.is(await page.evaluate('getComputedStyle(document.body).backgroundColor'), 'rgb(255, 255, 255)');
    const words = await page.evaluate<string>(
      `getComputedStyle(document.querySelector('.drawing text[fill="${palette.ink.light}"]')).fill`,
    );
    assert.is(words, rgb(palette.ink.light), 'drawings on paper are those for light ground');
    const pdf = await page.pdf();
    assert.ok(pdf.length > 10_000 && pdf.subarray(0, 5).toString() === '%PDF-');
    assert.equal(noise, [], name);
    await page.context().close();
  }
});

test.run();
