/** Whether a path names a GGUF file, by its ending. */
export const isGgufPath = (path: string): boolean => path.toLowerCase().endsWith('.gguf');
