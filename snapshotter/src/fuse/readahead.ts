import { stat, writeFile } from 'node:fs/promises';

/**
 * Sets how far the kernel reads ahead in the mount. It must be after the kernel's INIT (a first `stat` makes sure of it)
 * and before a layer is mounted. Without it reads come in 128 KiB: 12 MB/s at 20 ms.
 * @throws an error of the file system where `/sys` cannot be written
 */
export async function setReadahead(mountPoint: string, kib: number): Promise<void> {
  const { dev } = await stat(mountPoint);
  const major = ((dev >> 8) & 0xfff) | 0;
  const minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
  await writeFile(`/sys/class/bdi/${major}:${minor}/read_ahead_kb`, String(kib));
}
