import { configArgument, reloadable, runService } from '@sepia/base/process';
import { checkAgent, createAgent, loadAgentConfig, RELOADED } from './index.ts';

await runService('agent', async () => {
  const file = configArgument('agent');
  const start: typeof createAgent = async (config) => await createAgent(config, { env: process.env });
  return await reloadable({ load: () => loadAgentConfig(file), check: checkAgent, start }, RELOADED);
});
