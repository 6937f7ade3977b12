import { readFileSync } from 'node:fs';
import { PROTOCOL_VERSION } from '@sepia/http/app';
import { Command } from 'commander';
import { addBackup } from './commands/backup.ts';
import { addConfig } from './commands/config.ts';
import { addConfigure } from './commands/configure.ts';
import { addDemo } from './commands/demo.ts';
import { addGc } from './commands/gc.ts';
import { addHarbor } from './commands/harbor.ts';
import { addConversions } from './commands/images/conversions.ts';
import { addConvert } from './commands/images/convert.ts';
import { addLazy } from './commands/lazy.ts';
import { addPreheat } from './commands/preheat.ts';
import { addPull } from './commands/pull.ts';
import { addPurge } from './commands/purge.ts';
import { addPush } from './commands/push.ts';
import { addReplicate } from './commands/queues/replicate.ts';
import { addWriteBack } from './commands/queues/write-back.ts';
import { addRecords } from './commands/records.ts';
import { addRing } from './commands/ring.ts';
import { addRoles } from './commands/role.ts';
import { addSimulate } from './commands/simulate.ts';
import { addStatus } from './commands/status.ts';
import { addTag } from './commands/tag.ts';
import { addTorrent } from './commands/torrent.ts';
import { addUp } from './commands/up.ts';

const EXIT_CODES = `
Exit codes: 0 all is well; 1 it was done and something is not well, as the command says, or it failed in a way nobody thought of;
2 a wrong option or config, or it could not be done: one line says why.`;

/** The `sepia` command line. Bad usage ends the process with exit 2 and one line. */
export function buildProgram(): Command {
  const program = new Command('sepia');
  program
    .version(versionText(), '-V, --version', 'print the version')
    .description('Hands container images to every node of a cluster at once.')
    .addHelpText('after', EXIT_CODES)
    .showHelpAfterError('(sepia COMMAND --help shows the options)')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));
  addUp(program);
  addDemo(program);
  addRoles(program);
  addPull(program);
  addPush(program);
  addPreheat(program);
  addTorrent(program);
  addConvert(program);
  addConversions(program);
  addLazy(program);
  addHarbor(program);
  addTag(program);
  addPurge(program);
  addGc(program);
  addBackup(program);
  addReplicate(program);
  addWriteBack(program);
  addRing(program);
  addRecords(program);
  addStatus(program);
  addSimulate(program);
  addConfig(program);
  addConfigure(program);
  return program;
}

/** Version of the package, of the protocol between members, and of Node. */
function versionText(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return `sepia ${version} (protocol ${PROTOCOL_VERSION}, node ${process.version})`;
}
