import { configArgument, runService } from '@sepia/shared/process';
import { createProxy, loadProxyConfig } from './index.ts';

await runService('proxy', async () => await createProxy(loadProxyConfig(configArgument('proxy'))));
