import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { cacheFolder } from '../engine/cacheFolder.js';
import { findBundledDriver } from '../engine/softwareDriver.js';

/** The package unpacks where TMPDIR points, and libraries for bare machines only on what it takes for AWS Lambda. */
const unpacking = { AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs20.x' };

/** Open Sans of the package stands in for system fonts, so that pictures are the same on all machines that have no others. */
const fontsConfig = (folder: string): string => `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
<dir>${join(folder, 'fonts')}</dir><dir>/usr/share/fonts</dir><cachedir>${join(folder, 'fonts-cache')}</cachedir>
${['system-ui', 'sans-serif'].map(family => `<alias binding="same"><family>${family}</family><prefer><family>Open Sans</family></prefer></alias>`).join('\n')}
<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
`;

/** Sets environment variables until the block ends. */
function withEnvironment(values: Readonly<Record<string, string>>): Disposable {
  const before = Object.keys(values).map(name => [name, process.env[name]] as const);
  Object.assign(process.env, values);
  return {
    [Symbol.dispose]() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}

/** Unpacks Chromium, its libraries and fonts once into the user's cache; another process may be doing the same. */
async function unpackedChromium(): Promise<string> {
  const found = findBundledDriver();
  if (!found) throw new Error('@sparticuz/chromium is not installed, or this is no x64 Linux');
  const folder = join(cacheFolder(), `chromium-${found.version}`);
  if (existsSync(folder)) return folder;
  const part = `${folder}.${process.pid}`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { recursive: true });
  {
    using _ = withEnvironment({ ...unpacking, TMPDIR: part, LD_LIBRARY_PATH: '', FONTCONFIG_PATH: '' });
    if (tmpdir() !== part) throw new Error('TMPDIR is not heeded');
    const { default: chromium } = await import('@sparticuz/chromium');
    await chromium.executablePath();
  }
  try {
    renameSync(part, folder);
  } catch {
    // Someone else was first.
    rmSync(part, { recursive: true });
  }
  return folder;
}

/**
 * Headless Chromium out of the npm package @sparticuz/chromium, with the shared libraries and a font that it brings along:
 * needs nothing of the system but libc.
 *
 * @throws Error with the reason where it cannot start.
 */
export async function openBrowser(): Promise<Browser> {
  const folder = await unpackedChromium();
  const fonts = join(folder, 'fonts');
  writeFileSync(join(fonts, 'fonts.conf'), fontsConfig(folder));
  const { chromium } = await import('playwright-core');
  return await chromium.launch({
    executablePath: join(folder, 'chromium'),
    args: [
      '--no-sandbox',
      '--no-zygote',
      '--disable-webgl',
      '--in-process-gpu',
      '--font-render-hinting=none',
    ],
    env: {
      ...(process.env as Record<string, string>),
      // Behind the system's own libraries of the same names.
      LD_LIBRARY_PATH: [process.env.LD_LIBRARY_PATH, join(folder, 'al2023', 'lib')].filter(Boolean).join(':'),
      FONTCONFIG_PATH: fonts,
    },
    timeout: 20_000,
  });
}

/** The program of axe-core, to be added to a context before its pages. */
export const axeSource = (): string =>
  readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Rules of axe for pages that everyone can use. */
export const everyRule = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** What axe finds, an item per element; what is inside of drawings counts as one picture. */
export const violations = (page: Page, rules: readonly string[]): Promise<string[]> =>
  page.evaluate<string[]>(`(async () => {
    const options = { runOnly: ${JSON.stringify(rules)}, resultTypes: ['violations'] };
    const { violations } = await axe.run({ exclude: [['.drawing > g']] }, options);
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ': ' + html.slice(0, 200)));
  })()`);
