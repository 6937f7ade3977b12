import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** A gRPC service as a proto file has it, with the field names of that file. */
export function serviceIn(file: string, name: string): ServiceDefinition {
  const loaded = loadSync(file, {
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: false,
  });
  return loaded[name] as ServiceDefinition;
}
