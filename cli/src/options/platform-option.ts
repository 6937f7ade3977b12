import { CodedError } from '@sepia/base/errors';

/** Reads `--platform`, which may be given again, as `os/architecture[/variant]`. @throws {CodedError} `CONFIG_INVALID` */
export function platformOption(value: string, before: string[] = []): string[] {
  if (!/^[a-z0-9]+\/[a-z0-9]+(?:\/[a-z0-9.]+)?$/.test(value))
    throw new CodedError('CONFIG_INVALID', { message: `--platform: "${value}" is not like linux/amd64` });
  return [...before, value];
}
