/** Calls of the operating system that Node.js does not have. */
export interface FileCalls {
  /**
   * Exchanges two files or folders in one step, so that each path always has one of the two (Linux: renameat2 with
   * RENAME_EXCHANGE; macOS: renamex_np). Resolves to false, and changes nothing, where the file system cannot; rejects
   * with ERR_IO for every other failure.
   */
  exchangePaths(a: string, b: string): Promise<boolean>
}
