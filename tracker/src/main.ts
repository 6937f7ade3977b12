import { configArgument, reloadable, runService } from '@sepia/base/process';
import { checkTracker, createTracker, loadTrackerConfig } from './index.ts';

await runService('tracker', async () => {
  const file = configArgument('tracker');
  return await reloadable(
    { load: () => loadTrackerConfig(file), check: checkTracker, start: createTracker },
    ['log.level'],
  );
});
