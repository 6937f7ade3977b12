import { configArgument, runService } from '@sepia/shared/process';
import { createTracker, loadTrackerConfig } from './index.ts';

await runService('tracker', async () => await createTracker(loadTrackerConfig(configArgument('tracker'))));
