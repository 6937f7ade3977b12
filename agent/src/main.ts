import { configArgument, runService } from '@sepia/base/process';
import { createAgent, loadAgentConfig } from './index.ts';

await runService(
  'agent',
  async () => await createAgent(loadAgentConfig(configArgument('agent')), { env: process.env }),
);
