import { configArgument, reloadable, runService } from '@sepia/base/process';
import { createTracker, loadTrackerConfig } from './index.ts';

await runService('tracker', async () => {
  const file = configArgument('tracker');
  return await reloadable(() => loadTrackerConfig(file), createTracker, ['log.level']);
});
