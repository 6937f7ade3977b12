import { configArgument, runService } from '@sepia/shared/process';
import { createOrigin, loadOriginConfig } from './index.ts';

await runService('origin', async () => await createOrigin(loadOriginConfig(configArgument('origin'))));
