import { configArgument, reloadable, runService } from '@sepia/base/process';
import { checkOrigin, createOrigin, loadOriginConfig, type OriginConfig, RELOADED } from './index.ts';

const acceptLoss = process.argv.includes('--accept-loss');

await runService('origin', async () => {
  const file = configArgument('origin');
  const start: typeof createOrigin = async (config) =>
    await createOrigin(config, { acceptLoss, env: process.env });
  const check = async (config: OriginConfig) => await checkOrigin(config, process.env);
  return await reloadable({ load: () => loadOriginConfig(file), check, start }, RELOADED);
});
