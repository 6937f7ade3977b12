import { resolve } from 'node:path';
import { configArgument, runService } from '@sepia/base/process';
import { loadSnapshotterConfig, startSnapshotter } from './index.ts';
import { ensureHolder } from './launch.ts';

/** Tells the holder that the mount is gone. */
const NOTHING_TO_HOLD = 77;
// The holder starts the daemon again and again, from wherever it is.
const file = resolve(configArgument('snapshotter'));
const fd = Number(process.env['SEPIA_FUSE_FD'] ?? '');

if (Number.isSafeInteger(fd) && fd > 2) {
  const onEnd = (why: 'unmounted' | 'failed'): void =>
    process.exit(why === 'unmounted' ? NOTHING_TO_HOLD : 1);
  await runService('snapshotter', () => startSnapshotter(loadSnapshotterConfig(file), fd, onEnd));
} else {
  await runService('snapshotter', () =>
    ensureHolder(loadSnapshotterConfig(file), [process.execPath, import.meta.filename, '--config', file]),
  );
}
