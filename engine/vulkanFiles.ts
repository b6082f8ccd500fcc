import { existsSync, readdirSync } from 'node:fs';

/** The file system and environment as the Vulkan loader sees them. */
interface VulkanHost {
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

/** Finds the manifests of Vulkan drivers (ICDs) where the loader looks for them on Linux. */
export function vulkanDriverFiles({ env, exists, list }: VulkanHost): string[] {
  const named = env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES;
  if (named) return named.split(':').filter(path => path && exists(path));
  const data = env.XDG_DATA_HOME ?? (env.HOME ? `${env.HOME}/.local/share` : undefined);
  const roots = [
    '/etc',
    '/usr/share',
    '/usr/local/share',
    '/run/opengl-driver/share',
    ...(data ? [data] : []),
  ];
  return roots.flatMap(root =>
    list(`${root}/vulkan/icd.d`)
      .filter(name => name.endsWith('.json'))
      .map(name => `${root}/vulkan/icd.d/${name}`),
  );
}
