import { existsSync, readdirSync } from 'node:fs';

/** The file system and environment as the Vulkan loader sees them. */
export interface VulkanHost {
  readonly env: Readonly<Record<string, string | undefined>>;
  exists(path: string): boolean;
  /** Names in a folder; none if it does not exist. */
  list(folder: string): string[];
}

export const thisHost: VulkanHost = {
  env: process.env,
  exists: existsSync,
  list: folder => {
    try {
      return readdirSync(folder).sort();
    } catch {
      return [];
    }
  },
};

/**
 * Finds the manifests of Vulkan drivers (ICDs) where the loader looks for them on Linux, and where NVIDIA's container
 * toolkit of some clouds puts them.
 */
export function vulkanDriverFiles({ env, exists, list }: VulkanHost): string[] {
  const listed = (value: string | undefined) => (value ?? '').split(':').filter(Boolean);
  /** A file, or a folder of files. */
  const manifests = (path: string) =>
    path.endsWith('.json')
      ? [path].filter(exists)
      : list(path)
          .filter(name => name.endsWith('.json'))
          .map(name => `${path}/${name}`);
  const named = env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES;
  if (named) return listed(named).flatMap(manifests);
  const home = (variable: string | undefined, folder: string) =>
    variable || (env.HOME ? `${env.HOME}/${folder}` : undefined);
  const roots = [
    ...[home(env.XDG_CONFIG_HOME, '.config'), ...listed(env.XDG_CONFIG_DIRS ?? '/etc/xdg'), '/etc'],
    ...[
      home(env.XDG_DATA_HOME, '.local/share'),
      ...listed(env.XDG_DATA_DIRS ?? '/usr/local/share:/usr/share'),
    ],
    ...['/usr/share', '/usr/local/share', '/run/opengl-driver/share', '/usr/local/nvidia/share'],
  ].filter(root => root !== undefined);
  const folders = [...new Set(roots)].map(root => `${root.replace(/\/$/, '')}/vulkan/icd.d`);
  return [...listed(env.VK_ADD_DRIVER_FILES), ...folders].flatMap(manifests);
}

/**
 * Makes the loader of this process see drivers in folders where it does not look by itself.
 *
 * @returns the files that were added.
 */
export function addDriverFiles(env: Record<string, string | undefined>, host: VulkanHost): string[] {
  if (env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES) return [];
  const before = (env.VK_ADD_DRIVER_FILES ?? '').split(':');
  const added = vulkanDriverFiles(host).filter(
    path => path.startsWith('/usr/local/nvidia/share/') && !before.includes(path),
  );
  if (added.length > 0)
    env.VK_ADD_DRIVER_FILES = [env.VK_ADD_DRIVER_FILES, ...added].filter(Boolean).join(':');
  return added;
}
