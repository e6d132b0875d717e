// The snapshots that a stopped node keeps of state in memory, as a tool reads them.

import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState

/// A node's directory of snapshots.
struct KeptSnapshots {
    /// One that was copied, and found whole.
    struct Copied {
        var header: SnapshotHeader
        var state: RegionState
        var footer: SnapshotFooter
        var fileBytes: UInt64
    }

    private static let blockBytes = 1 << 20
    private let fileSystem: any FileSystem
    private let directory: String
    private let names: [String]

    init(_ fileSystem: any FileSystem, directory: String) {
        self.fileSystem = fileSystem
        self.directory = directory
        names = ((try? fileSystem.list(directory)) ?? []).filter { $0.hasPrefix("kept-") }
    }

    var isEmpty: Bool { names.isEmpty }

    /// Copies a region's newest one, once every byte of it has been checked; durable at return. Nil: there is
    /// none.
    func copy(
        _ region: RegionID, to path: String, _ onFrame: (_ rawBytes: UInt64) -> Void
    ) throws -> Copied? {
        let newest = names.compactMap { SnapshotFiles.keptIndex($0, region) }.max()
        guard let newest else { return nil }
        let source = "\(directory)/kept-\(region.rawValue)-\(newest.rawValue)"
        do {
            let file = try fileSystem.open(source, .read)
            defer { file.close() }
            let reader = try SnapshotFileReader(file)
            var state: RegionState?
            while let frame = try reader.next() {
                state = state ?? frame.state
                onFrame(reader.totals.rawBytes)
            }
            guard let state, reader.header.region == region else {
                throw SnapshotError(.damaged, "It is another region's.")
            }
            try write(file, reader.fileBytes, to: path)
            return Copied(
                header: reader.header, state: state, footer: reader.totals,
                fileBytes: reader.fileBytes)
        } catch let error as FileError {
            throw SnapshotError(error, doing: "\(path) was not written")
        } catch var error as SnapshotError {
            error.message = "\(source): \(error.message)"
            throw error
        }
    }

    /// Under another name until it is whole and durable, as every snapshot.
    private func write(
        _ source: any File, _ byteCount: UInt64, to path: String
    ) throws(FileError) {
        let partial = SnapshotFileWriter.partialPath(path)
        if fileSystem.exists(partial) { try fileSystem.remove(partial) }
        let target = try fileSystem.open(partial, .createNew)
        defer { target.close() }
        let block = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.blockBytes, alignment: 4096)
        defer { block.deallocate() }
        do throws(FileError) {
            var offset: UInt64 = 0
            while offset < byteCount {
                let got = try source.read(into: block, at: offset)
                guard got > 0 else {
                    throw FileError(kind: .ioFailed, operation: "pread", path: path)
                }
                try target.write(UnsafeRawBufferPointer(rebasing: block[..<got]), at: offset)
                offset += UInt64(got)
            }
            try target.sync()
            try fileSystem.rename(partial, to: path)
            try fileSystem.syncDirectory(SnapshotFileWriter.parent(of: path))
        } catch {
            try? fileSystem.remove(partial)
            throw error
        }
    }
}
