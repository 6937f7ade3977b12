import { resolve } from 'node:path';
import { configArgument, reloadable, runService } from '@sepia/base/process';
import {
  checkSnapshotter,
  loadSnapshotterConfig,
  RELOADED,
  type SnapshotterConfig,
  startSnapshotter,
} from './index.ts';
import { ensureHolder } from './launch.ts';

/** Tells the holder that the mount is gone. */
const NOTHING_TO_HOLD = 77;
// The holder starts the daemon again and again, from wherever it is.
const file = resolve(configArgument('snapshotter'));
const fd = Number(process.env['SEPIA_FUSE_FD'] ?? '');

if (Number.isSafeInteger(fd) && fd > 2) {
  const onEnd = (why: 'unmounted' | 'failed'): void =>
    process.exit(why === 'unmounted' ? NOTHING_TO_HOLD : 1);
  const start = async (config: SnapshotterConfig) => await startSnapshotter(config, fd, onEnd);
  const load = (): SnapshotterConfig => loadSnapshotterConfig(file);
  await runService('snapshotter', () => reloadable({ load, check: checkSnapshotter, start }, RELOADED));
} else {
  await runService('snapshotter', async () => {
    const command = [process.execPath, import.meta.filename, '--config', file];
    const config = loadSnapshotterConfig(file);
    checkSnapshotter(config);
    const holder = await ensureHolder(config, { command, file });
    return {
      stop: async () => await holder.stop(),
      reload: async () => {
        // A config that is wrong is refused here, where somebody reads it.
        checkSnapshotter(loadSnapshotterConfig(file));
        return (await holder.reload?.()) ?? '';
      },
    };
  });
}
