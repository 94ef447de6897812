const blockBytes = 512;

export interface TarFile {
  readonly name: string;
  readonly content: Uint8Array;
}

/** A tar archive of plain files (POSIX.1-1988 ustar), each owned by root with mode 0644. */
export function tar(files: readonly TarFile[]): Buffer<ArrayBuffer> {
  const blocks: Uint8Array[] = [];
  for (const { name, content } of files) {
    blocks.push(header(name, content.length), content, Buffer.alloc(padding(content.length)));
  }
  return Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]);
}

function header(name: string, size: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new RangeError(`a ustar name has at most 100 bytes: ${name}`);
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0);
  block.write("0000644\0", 100);
  block.write("0000000\0", 108);
  block.write("0000000\0", 116);
  block.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
  block.write("00000000000\0", 136);
  block.write("        ", 148);
  block.write("0", 156);
  block.write("ustar\0", 257);
  block.write("00", 263);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  block.write(`${checksum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

function padding(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
}
