import { readFileSync } from 'node:fs';
import { besideConfig, checkConfig } from '@sepia/base/config/load';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { z } from 'zod';
import { type ClusterDocument, DOCUMENT_SCHEMA } from './document.ts';

/** Reads the cluster document; files that it names become absolute. @throws {CodedError} `CONFIG_INVALID` that names file and key */
export function loadClusterDocument(file: string): ClusterDocument {
  try {
    return withPaths(parseClusterDocument(readFileSync(file, 'utf8'), file), file);
  } catch (cause) {
    throwIfBug(cause);
    if (cause instanceof CodedError) throw cause;
    throw new CodedError('CONFIG_INVALID', {
      message: `cluster-document: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}

function withPaths(document: ClusterDocument, file: string): ClusterDocument {
  const at = <T extends { readonly ca?: string | undefined }>(one: T): T =>
    one.ca === undefined ? one : { ...one, ca: besideConfig(file, one.ca) };
  return {
    ...document,
    upstreams: document.upstreams.map(at).map((one) => {
      const s3 = one.backend?.s3;
      return s3 === undefined ? one : { ...one, backend: { ...one.backend, s3: at(s3) } };
    }),
    replication: document.replication.map((rule) => ({ ...rule, to: at(rule.to) })),
  };
}

/** As {@link loadClusterDocument} of a text; `file` is named in errors. @throws {CodedError} `CONFIG_INVALID` */
export function parseClusterDocument(text: string, file: string): ClusterDocument {
  return checkConfig(text, file, DOCUMENT_SCHEMA as unknown as z.ZodType<ClusterDocument>);
}
