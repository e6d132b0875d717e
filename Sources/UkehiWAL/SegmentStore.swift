// The log's directory as the running log changes it: preparing, naming and removing segments.
//
//   prepare     next.tmp is created, allocated, zeroed and synced, chunk by chunk
//   activate    header written and synced -> renamed -> directory synced -> mark raised -> frames
//   remove      mark raised -> file removed -> directory synced
//   or reuse    mark raised -> renamed to next.tmp -> directory synced -> activated again
//   reserve     room for a start on a full volume (SegmentReserve.swift)
//
// Each arrow is a point where a crash leaves a directory that recovery understands. The active
// segment may be taken into use before all of it is zeroed; then the rest follows in the
// background, ahead of the frames, so that a fresh directory does not wait for 128 MiB of zeros.

import UkehiBase
package import UkehiEnvironment

/// One open segment.
///
/// Safety: `header`, `preparedTo` and `end` are read and changed under the log's lock; the file is
/// thread-safe. A reader that holds it can go on reading after it was removed.
package final class SegmentFile: @unchecked Sendable {
    package let file: any File
    var header: SegmentHeader
    /// Bytes from the start that are zeroed, or may be written without that.
    var preparedTo: UInt64
    /// Where its frames end; nil while it is active.
    var end: UInt64?
    /// Whether this process made the file, and so knows that what is prepared of it was written.
    var isOwn = false

    init(file: any File, header: SegmentHeader, preparedTo: UInt64, end: UInt64?) {
        self.file = file
        self.header = header
        self.preparedTo = preparedTo
        self.end = end
    }
}

extension SegmentFile {
    /// What the file takes on disk.
    var fileBytes: Int { Int(max(end ?? 0, min(preparedTo, header.capacity))) }
}

/// What stays the same while a log is open; used by the thread that has the work to do.
final class SegmentStore: Sendable {
    let fileSystem: any FileSystem
    let directory: String
    let options: WALOptions

    init(fileSystem: any FileSystem, directory: String, options: WALOptions) {
        self.fileSystem = fileSystem
        self.directory = directory
        self.options = options
    }

    func path(_ name: String) -> String { LogNames.join(directory, name) }

    /// Creates the next segment's file under its preliminary name, with nothing zeroed yet.
    func createNext(byteCount: Int) throws(FileError) -> SegmentFile {
        let path = path(LogNames.next)
        if fileSystem.exists(path) { try fileSystem.remove(path) }
        let file = try fileSystem.open(path, .createNew)
        let capacity = UInt64(byteCount)
        var isAllocated = false
        do throws(FileError) {
            try file.allocate(byteCount: capacity)
            // Its size must be durable before a frame is: a shorter file then was truncated.
            try file.sync()
            isAllocated = true
        } catch {
            if error.kind != .unsupported {
                // On a full volume it may have got a part of its blocks, which others need.
                file.close()
                try? fileSystem.remove(path)
                throw error
            }
        }
        return segment(file, capacity: capacity, isAllocated: isAllocated)
    }

    /// A file of this process that is to become a segment, with nothing zeroed yet.
    func segment(_ file: any File, capacity: UInt64, isAllocated: Bool) -> SegmentFile {
        let header = SegmentHeader(
            log: 0, segment: 0, incarnation: 0, firstLSN: 0, capacity: capacity,
            isAllocated: isAllocated, predecessor: 0, predecessorEnd: 0, predecessorLastLSN: 0,
            predecessorChecksum: 0)
        let made = SegmentFile(
            file: file, header: header, preparedTo: options.zeroesAhead ? 0 : capacity, end: nil)
        made.isOwn = true
        return made
    }

    /// Gives a dead segment's file the preliminary name. Its blocks were all written in its last
    /// life, so that they need no zeros; the frames in them name another segment and incarnation.
    func reuse(_ segment: SegmentFile) throws(FileError) -> SegmentFile {
        try fileSystem.rename(
            path(LogNames.segment(segment.header.segment)), to: path(LogNames.next))
        try fileSystem.syncDirectory(directory)
        return segment
    }

    /// Zeroes the next chunk of `segment` from `offset` durably; where it ended.
    func zero(_ segment: SegmentFile, from offset: UInt64) throws(FileError) -> UInt64 {
        let left = segment.header.capacity - offset
        // Never less than a segment's header: what is zeroed behind it must not be part of it.
        let chunk =
            options.rarePaths.takes(.preparedBitByBit)
            ? SegmentFormat.firstFrameOffset : WALLimits.prepareChunkBytes
        let count = min(left, UInt64(chunk))
        try zeroBlock.withBytes(Int(count)) { (bytes) throws(FileError) in
            try segment.file.writeDurably(bytes, at: offset)
        }
        return offset + count
    }

    /// Makes a prepared file the segment that `header` describes, durably by content and name.
    func activate(
        _ segment: SegmentFile, header: SegmentHeader
    ) throws(FileError) -> SegmentHeader {
        var header = header
        header.isAllocated = segment.header.isAllocated
        header.capacity = segment.header.capacity
        let buffer = FrameBuffer(capacity: SegmentFormat.firstFrameOffset)
        header.encode(to: buffer.base)
        try segment.file.writeDurably(
            UnsafeRawBufferPointer(start: buffer.base, count: SegmentFormat.firstFrameOffset),
            at: 0)
        try fileSystem.rename(
            path(LogNames.next), to: path(LogNames.segment(header.segment)))
        #if BugBank
            if PlantedBug.directoryNotSynced.isPlanted { return header }
        #endif
        try fileSystem.syncDirectory(directory)
        return header
    }

    func remove(segment: UInt64) throws(FileError) {
        try fileSystem.remove(path(LogNames.segment(segment)))
        try fileSystem.syncDirectory(directory)
    }
}

/// Zeros to write from, shared by all logs of the process.
private let zeroBlock = ZeroBlock()

/// Safety: written once, before it is shared.
private final class ZeroBlock: @unchecked Sendable {
    private let buffer = FrameBuffer(
        capacity: WALLimits.prepareChunkBytes, prefersLargePages: true)

    init() {
        buffer.base.initializeMemory(
            as: UInt8.self, repeating: 0, count: WALLimits.prepareChunkBytes)
    }

    func withBytes(
        _ count: Int, _ body: (UnsafeRawBufferPointer) throws(FileError) -> Void
    ) throws(FileError) {
        try body(UnsafeRawBufferPointer(start: buffer.base, count: count))
    }
}

extension WALError {
    /// A file operation's failure, as the log reports it.
    init(_ error: FileError, effect: String) {
        let code: Code =
            switch error.kind {
            case .noSpace: .diskFull
            case .locked: .locked
            default: .ioFailed
            }
        let advice =
            switch error.kind {
            case .noSpace: "Free space on the volume."
            case .locked: "Stop the process that uses the directory."
            case .denied: "Check owner and permissions."
            case .noDescriptor: "Raise the limit of open files (ulimit -n)."
            default: "Check the disk; see the system's log."
            }
        self.init(code, "\(effect): \(error). \(advice)")
    }
}
