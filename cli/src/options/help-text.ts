import { type Command, Help, type Option } from 'commander';

/** Columns of a help that no terminal shows, as commander has it. */
const USUAL_WIDTH = 80;
/** That a flag is off, or a list empty, is what leaving it out means. */
const SAYS_NOTHING = / \(default: (?:false|\[\])\)$/;

/** For a program's `configureHelp`; the commands that are added to it have it too. */
export const HELP_STYLE: Partial<Help> = {
  optionDescription(option: Option): string {
    return Help.prototype.optionDescription.call(this, option).replace(SAYS_NOTHING, '');
  },
};

/** Paragraphs below a command's options, as wide as the rest of its help. */
export function helpBelow(command: Command, paragraphs: readonly string[]): Command {
  return command.addHelpText('after', ({ command, error }) => {
    const { help, width } = helpOf(command, error);
    return ['', ...paragraphs.map((text) => help.boxWrap(text, width))].join('\n');
  });
}

/** Names below a command's options, each with what it means beside it. */
export function namesBelow(
  command: Command,
  title: string,
  names: Readonly<Record<string, string>>,
): Command {
  return command.addHelpText('after', ({ command, error }) => {
    const { help } = helpOf(command, error);
    const widest = Math.max(...Object.keys(names).map((name) => name.length));
    const items = Object.entries(names).map(([name, text]) => help.formatItem(name, widest, text, help));
    return ['', title, ...items].join('\n');
  });
}

function helpOf(command: Command, isError: boolean): { readonly help: Help; readonly width: number } {
  const { getErrHelpWidth, getOutHelpWidth } = command.configureOutput();
  const width = (isError ? getErrHelpWidth?.() : getOutHelpWidth?.()) ?? USUAL_WIDTH;
  const help = command.createHelp();
  help.prepareContext({ helpWidth: width });
  return { help, width };
}
