/** Whether a path ends in .gguf. */
export const isGgufPath = (path: string): boolean => path.toLowerCase().endsWith('.gguf');
