const MIB = 1024 * 1024;
/** What a process that converts needs without its compression threads, and what each of these adds, as measured. */
const BASE_BYTES = 160 * MIB;
const THREAD_BYTES = 40 * MIB;

/**
 * How many compression threads a process may have where nobody said: one per core, fewer where their memory would not fit.
 * @param memoryBytes what the process may use in all
 */
export function fittingThreads(cores: number, memoryBytes: number): number {
  const fitting = Math.floor((memoryBytes - BASE_BYTES) / THREAD_BYTES);
  return Math.max(1, Math.min(cores, fitting));
}
