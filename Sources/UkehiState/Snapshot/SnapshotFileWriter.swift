// A snapshot as a file: under another name until it is whole and durable, so that a file of its own
// name is always a whole snapshot.

import UkehiBase
package import UkehiEnvironment

/// Writes one snapshot file. Used by one thread at a time; ends with `finish` or `abandon`.
package final class SnapshotFileWriter {
    private let fileSystem: any FileSystem
    private let path: String
    private let output: Output
    /// Takes the pairs.
    package let encoder: SnapshotEncoder

    /// The file while it is written; the encoder's sink.
    private final class Output {
        let file: any File
        let path: String
        var offset: UInt64 = 0
        /// Up to here the disk was given its work, while the next frames are made.
        private var begun: UInt64 = 0
        private static let writeBackBytes: UInt64 = 4 << 20
        init(_ file: any File, _ path: String) {
            self.file = file
            self.path = path
        }
        func write(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) {
            do throws(FileError) {
                try file.write(bytes, at: offset)
            } catch {
                throw SnapshotError(error, doing: "The snapshot \(path) was not written")
            }
            offset += UInt64(bytes.count)
            if offset - begun >= Self.writeBackBytes {
                file.beginWriteBack(begun..<offset)
                begun = offset
            }
        }
    }

    /// The name of a snapshot while it is written.
    package static func partialPath(_ path: String) -> String { path + ".partial" }

    /// Begins the file. What an earlier attempt left behind is replaced.
    ///
    /// - Throws: ``SnapshotError``; `.exists` if there is a file at `path`.
    package init(
        _ fileSystem: any FileSystem, path: String, _ header: SnapshotHeader, state: RegionState,
        options: SnapshotOptions = SnapshotOptions()
    ) throws(SnapshotError) {
        guard !fileSystem.exists(path) else {
            throw SnapshotError(
                .exists,
                "The snapshot was not written: \(path) is there already. Remove it or name "
                    + "another file.")
        }
        let partial = Self.partialPath(path)
        do throws(FileError) {
            if fileSystem.exists(partial) { try fileSystem.remove(partial) }
            output = Output(try fileSystem.open(partial, .createNew), path)
        } catch {
            throw SnapshotError(error, doing: "The snapshot \(path) was not written")
        }
        self.fileSystem = fileSystem
        self.path = path
        do throws(SnapshotError) {
            encoder = try SnapshotEncoder(header, state: state, options: options) {
                [output] bytes throws(SnapshotError) in try output.write(bytes)
            }
        } catch {
            output.file.close()
            try? fileSystem.remove(partial)
            throw error
        }
    }

    /// Bytes of the file so far.
    package var fileBytes: UInt64 { output.offset }

    /// Makes the file whole, durable, and known by its name.
    ///
    /// - Parameter publish: Gives it its name, by what it is handed, if it is still wanted; whether it was.
    /// - Throws: ``SnapshotError``, `.cancelled` if it was not.
    package func finish(
        publish: SnapshotPublication = SnapshotFileWriter.publishAlways
    ) throws(SnapshotError) -> SnapshotFooter {
        let footer = try encoder.finish()
        do throws(FileError) {
            try output.file.sync()
            output.file.close()
            let isWanted = try publish { () throws(FileError) in
                try fileSystem.rename(Self.partialPath(path), to: path)
            }
            if isWanted {
                try fileSystem.syncDirectory(Self.parent(of: path))
                return footer
            }
        } catch {
            throw SnapshotError(error, doing: "The snapshot \(path) was not made durable")
        }
        throw SnapshotError(.cancelled, "The snapshot \(path) is not wanted any more.")
    }

    package static let publishAlways:
        @Sendable (
            () throws(FileError) -> Void
        ) throws(FileError) -> Bool = { (rename) throws(FileError) in
            try rename()
            return true
        }

    /// Takes the unfinished file away.
    package func abandon() {
        encoder.abandon()
        output.file.close()
        try? fileSystem.remove(Self.partialPath(path))
    }

    /// The directory that a path's last name is in.
    package static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

extension SnapshotError {
    /// What a failing disk means for a snapshot.
    package init(_ error: FileError, doing effect: String) {
        let code: Code
        let advice: String
        switch error.kind {
        case .noSpace: (code, advice) = (.diskFull, "Free space, or use another volume.")
        case .notFound: (code, advice) = (.notFound, "Check the path.")
        case .alreadyExists: (code, advice) = (.exists, "Name another file.")
        case .denied:
            (code, advice) = (.ioFailed, "Check the rights of the file and its directory.")
        default: (code, advice) = (.ioFailed, "Check the disk, or use another one.")
        }
        self.init(code, "\(effect): \(error). \(advice)")
    }
}

/// Gives a file its name, by what it is handed, if it is still wanted; whether it was.
package typealias SnapshotPublication =
    (_ rename: () throws(FileError) -> Void) throws(FileError) -> Bool
