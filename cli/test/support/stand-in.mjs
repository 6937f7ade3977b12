// Stands in for a member: its config decides the admin port, files beside its data folder how it behaves.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, resolve } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { runService } from '@sepia/base/process';
import { parse } from 'yaml';

const file = process.argv[process.argv.indexOf('--config') + 1];
const config = parse(readFileSync(file, 'utf8'));
const data = resolve(dirname(file), config.data);
mkdirSync(data, { recursive: true });
writeFileSync(`${data}/flags`, process.argv.slice(4).join(' '));
const sign = (name) => existsSync(`${data}/${name}`);

await runService(config.id.replace(/-\d+$/, ''), async () => {
  if (sign('refuse'))
    throw new CodedError('START_FAILED', { message: `data: ${data} is in use by another process` });
  const [host, port] = config['admin-listen'].split(':');
  const server = createServer((_request, response) =>
    response.writeHead(sign('unready') ? 503 : 200).end('x'),
  );
  await new Promise((done, failed) => server.once('error', failed).listen(Number(port), host, done));
  return {
    stop: async () => {
      writeFileSync(`${data}/drained`, 'yes');
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
});
