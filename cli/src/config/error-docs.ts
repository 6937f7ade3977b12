import { ERROR_TABLE } from '@sepia/base/errors';

const HEAD = `# Error codes

Made from \`shared/base/src/errors.ts\` by \`./sepia config --errors > docs/errors.md\`; a test fails when it is out of date.

Every error is \`{"errors":[{"code","message","detail"}]}\` with the OCI code; the header \`Sepia-Error\` carries the finer one.
Codes never change their meaning, messages may. "again": the same request may succeed later.

| Sepia-Error | OCI code | status | again | meaning |
| --- | --- | --- | --- | --- |
`;

/** The text of `docs/errors.md`. */
export function errorDocs(): string {
  const rows = Object.entries(ERROR_TABLE).map(
    ([code, { oci, status, retryable, message }]) =>
      `| \`${code}\` | \`${oci}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${message.replaceAll('|', '\\|')} |\n`,
  );
  return HEAD + rows.join('');
}
