import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { cacheFolder } from './cacheFolder.js';
import { thisHost, vulkanDriverFiles } from './vulkanFiles.js';

const driverFiles = ['libvulkan.so.1', 'libvk_swiftshader.so', 'vk_swiftshader_icd.json'];
const RTLD_NOW = 2;
/** Keeps the library loaded, so that Dawn's dlopen("libvulkan.so.1") finds it by its soname. */
const RTLD_NODELETE = 0x1000;

/** Finds the archive with SwiftShader and a Vulkan loader in @sparticuz/chromium, if that package is installed. */
export function findBundledDriver(): { archive: string; version: string } | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      // The package exports no package.json, so its main file leads to its folder.
      let folder = dirname(createRequire(from).resolve('@sparticuz/chromium'));
      while (!existsSync(join(folder, 'bin', 'swiftshader.tar.br'))) {
        if (folder === dirname(folder)) throw new Error('no archive');
        folder = dirname(folder);
      }
      const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      return { archive: join(folder, 'bin', 'swiftshader.tar.br'), version };
    } catch {
      // Not installed here: look in the next place.
    }
  }
  return undefined;
}

/** Unpacks the driver's three files into the user's cache, once; another process may be doing the same. */
function unpack(archive: string, version: string): string {
  const folder = join(cacheFolder(), `swiftshader-${version}`);
  if (driverFiles.every(file => existsSync(join(folder, file)))) return folder;
  const part = `${folder}.${process.pid}`;
  mkdirSync(part, { recursive: true });
  const tar = brotliDecompressSync(readFileSync(archive));
  for (let at = 0; at + 512 <= tar.length && tar[at]; ) {
    const name = basename(tar.toString('latin1', at, at + 100).replace(/\0.*$/s, ''));
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 136), 8);
    if (driverFiles.includes(name)) {
      writeFileSync(join(part, name), tar.subarray(at + 512, at + 512 + size), { mode: 0o755 });
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  mkdirSync(folder, { recursive: true });
  // File by file: another process may do the same, and nothing else in the folder is touched.
  for (const file of driverFiles) renameSync(join(part, file), join(folder, file));
  rmdirSync(part);
  return folder;
}

/** Loads a shared library for the life of the process; returns dlopen's message. */
function keepLoaded(library: string): string {
  try {
    process.dlopen({ exports: {} } as NodeJS.Module, library, RTLD_NOW | RTLD_NODELETE);
  } catch (error) {
    // Node throws even if the library was loaded, since it is no Node addon.
    return (error as Error).message;
  }
  return '';
}

/** Whether this Linux has a Vulkan loader and driver. Asking Dawn would print a message for each that is missing. */
export const hasVulkan = (): boolean =>
  vulkanDriverFiles(thisHost).length > 0 &&
  !keepLoaded('libvulkan.so.1').includes('cannot open shared object');

let enabled: boolean | undefined;

/**
 * Makes SwiftShader, a Vulkan driver on the CPU, the Vulkan driver of this process; it comes from the npm package
 * @sparticuz/chromium. Call it before the adapter request that should see it.
 *
 * @returns whether it succeeded; false if the package is not installed or the platform is not x64 Linux.
 */
export function enableBundledDriver(): boolean {
  if (enabled !== undefined) return enabled;
  const driver = findBundledDriver();
  if (!driver) {
    enabled = false;
    return false;
  }
  const folder = unpack(driver.archive, driver.version);
  process.env.VK_DRIVER_FILES = join(folder, 'vk_swiftshader_icd.json');
  keepLoaded(join(folder, 'libvulkan.so.1'));
  enabled = true;
  return true;
}
