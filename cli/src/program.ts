import { readFileSync } from 'node:fs';
import { CodedError } from '@sepia/base/errors';
import { PROTOCOL_VERSION } from '@sepia/http/sign';
import { Command } from 'commander';
import { HELP_STYLE, helpBelow } from './options/help-text.ts';
import { ROLES } from './up/plan.ts';

const EXIT_CODES =
  'Exit codes: 0 success; 1 it ran, but something is not as it should be (the output says what), or a bug; 2 a wrong option or config, or it could not be done (one line says why); 141 the reader of its output has gone.';

/** Adds commands to a program. */
type Add = (program: Command) => void;

/** What adds commands, by their names, in the order of `--help`. */
const COMMANDS: readonly (readonly [names: readonly string[], load: () => Promise<Add>])[] = [
  [['up'], async () => (await import('./commands/up.ts')).addUp],
  [['demo'], async () => (await import('./commands/demo.ts')).addDemo],
  [ROLES, async () => (await import('./commands/role.ts')).addRoles],
  [['pull'], async () => (await import('./commands/pull.ts')).addPull],
  [['push'], async () => (await import('./commands/push.ts')).addPush],
  [['preheat'], async () => (await import('./commands/preheat.ts')).addPreheat],
  [['torrent'], async () => (await import('./commands/torrent.ts')).addTorrent],
  [['convert'], async () => (await import('./commands/images/convert.ts')).addConvert],
  [['conversions'], async () => (await import('./commands/images/conversions.ts')).addConversions],
  [['lazy'], async () => (await import('./commands/lazy.ts')).addLazy],
  [['harbor'], async () => (await import('./commands/harbor.ts')).addHarbor],
  [['tag'], async () => (await import('./commands/tag.ts')).addTag],
  [['purge'], async () => (await import('./commands/purge.ts')).addPurge],
  [['gc'], async () => (await import('./commands/gc.ts')).addGc],
  [['backup', 'restore'], async () => (await import('./commands/backup.ts')).addBackup],
  [['replicate'], async () => (await import('./commands/queues/replicate.ts')).addReplicate],
  [['write-back'], async () => (await import('./commands/queues/write-back.ts')).addWriteBack],
  [['ring'], async () => (await import('./commands/ring.ts')).addRing],
  [['records'], async () => (await import('./commands/records.ts')).addRecords],
  [['status'], async () => (await import('./commands/status.ts')).addStatus],
  [['simulate'], async () => (await import('./commands/simulate.ts')).addSimulate],
  [['config'], async () => (await import('./commands/config.ts')).addConfig],
  [['configure'], async () => (await import('./commands/configure.ts')).addConfigure],
];

/**
 * The `sepia` command line. Bad usage ends the process with exit 2 and one line. `asked`: a command of it, which is then the only
 * one: the others' modules are most of what there is to load.
 */
export async function buildProgram(asked?: string): Promise<Command> {
  const program = new Command('sepia');
  program
    .version(versionText(), '-V, --version', 'print the version')
    .description('Brings container images to every node of a cluster at once.')
    .configureHelp(HELP_STYLE)
    .showHelpAfterError('(sepia COMMAND --help shows the options)')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));
  helpBelow(program, [EXIT_CODES]);
  program.hook('preAction', (_, action) => refuseEmpty(action));
  const one = COMMANDS.filter(([names]) => asked !== undefined && names.includes(asked));
  for (const [, load] of one.length > 0 ? one : COMMANDS) (await load())(program);
  return program;
}

/** What a script left empty, as of a variable that is not set, means nothing anywhere. @throws {CodedError} `REQUEST_INVALID` */
function refuseEmpty(action: Command): void {
  const option = action.options.find((one) => action.getOptionValue(one.attributeName()) === '');
  const at = action.args.indexOf('');
  const argument = at === -1 ? undefined : action.registeredArguments[at];
  const named = option?.long ?? (argument === undefined ? undefined : `<${argument.name()}>`);
  if (named !== undefined) throw new CodedError('REQUEST_INVALID', { message: `${named}: is empty` });
}

/** Version of the package, of the protocol between members, and of Node. */
function versionText(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return `sepia ${version} (protocol ${PROTOCOL_VERSION}, node ${process.version})`;
}
