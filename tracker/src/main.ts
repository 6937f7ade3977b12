import { configArgument, runService } from '@sepia/base/process';
import { createTracker, loadTrackerConfig } from './index.ts';

await runService('tracker', async () => await createTracker(loadTrackerConfig(configArgument('tracker'))));
