import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/**
 * The cache folder, which users may delete at any time: XDG_CACHE_HOME/rm-engine if that is set, else
 * %LOCALAPPDATA%\rm-engine on Windows, ~/Library/Caches/rm-engine on macOS and ~/.cache/rm-engine elsewhere.
 */
export function cacheFolder(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  // The XDG specification says to ignore relative paths.
  if (env.XDG_CACHE_HOME && isAbsolute(env.XDG_CACHE_HOME)) return join(env.XDG_CACHE_HOME, 'rm-engine');
  if (platform === 'win32' && env.LOCALAPPDATA) return join(env.LOCALAPPDATA, 'rm-engine');
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'rm-engine');
  return join(homedir(), '.cache', 'rm-engine');
}
