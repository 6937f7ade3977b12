import { configArgument, reloadable, runService } from '@sepia/base/process';
import { createAgent, loadAgentConfig, RELOADED } from './index.ts';

await runService('agent', async () => {
  const file = configArgument('agent');
  const start: typeof createAgent = async (config) => await createAgent(config, { env: process.env });
  return await reloadable(() => loadAgentConfig(file), start, RELOADED);
});
