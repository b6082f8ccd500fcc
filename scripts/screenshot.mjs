// Takes pictures of a report page for docs/; run `npm run build` before:
//   node scripts/screenshot.mjs REPORT.html docs/NAME      writes docs/NAME-light.png, -dark.png and -phone.png
// Uses the headless Chromium of @sparticuz/chromium (see test/browser.ts), so that fonts are the same everywhere.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openBrowser } from '../dist/test/browser.js';

const [page, name] = process.argv.slice(2);
if (!page || !name) {
  console.error('node scripts/screenshot.mjs REPORT.html NAME');
  process.exit(2);
}
const shots = [
  { ending: 'light', width: 1280, height: 1600, colorScheme: 'light' },
  { ending: 'dark', width: 1280, height: 1600, colorScheme: 'dark' },
  { ending: 'phone', width: 360, height: 1600, colorScheme: 'light' },
];
const browser = await openBrowser();
try {
  for (const { ending, width, height, colorScheme } of shots) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme });
    const tab = await context.newPage();
    await tab.goto(pathToFileURL(resolve(page)).href);
    await tab.screenshot({ path: `${name}-${ending}.png`, fullPage: true });
    await context.close();
  }
} finally {
  await browser.close();
}
