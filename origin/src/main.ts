import { configArgument, reloadable, runService } from '@sepia/base/process';
import { createOrigin, loadOriginConfig, RELOADED } from './index.ts';

const acceptLoss = process.argv.includes('--accept-loss');

await runService('origin', async () => {
  const file = configArgument('origin');
  const start: typeof createOrigin = async (config) =>
    await createOrigin(config, { acceptLoss, env: process.env });
  return await reloadable(() => loadOriginConfig(file), start, RELOADED);
});
