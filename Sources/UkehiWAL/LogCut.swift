// Dropping what stands behind a damaged place: the one thing in this module that gives up acknowledged
// records. Only an operator asks for it, for a log at rest, having been told the place and the loss.
//
//   every file it changes or takes away is kept whole in a directory of its own: mark, the segment
//   with the place, those behind it
//     -> mark lowered: the segment with the place is the newest
//     -> later segments moved out, newest first
//     -> the segment zeroed from the place to its end: as if nothing had been written there
//
// Cut anywhere, the log is damaged at the same place as before, and cutting again goes on. What is left
// is a prefix of the log that was: for all regions the same moment.

import UkehiBase
package import UkehiEnvironment

/// What cutting a damaged log would do.
package struct LogCut: Sendable {
    /// From here on nothing is left.
    package var place: LogPosition
    /// What is wrong there.
    package var problem: WALError
    /// What would go with it, as far as it can be told.
    package var loss: LogLoss
    /// The segments that it takes away whole, as far as they are there; ascending.
    package var segments: [UInt64]

    /// - Parameter directory: A node's data directory, or the wal directory in it.
    /// - Returns: Nil: the log is sound.
    /// - Throws: ``WALError``: damage that no cut takes away, since nothing would be left before it, or
    ///   a log that cannot be read at all.
    package static func plan(
        _ fileSystem: any FileSystem, directory: String
    ) throws(WALError) -> LogCut? {
        let report = WALInspector(fileSystem: fileSystem, directory: directory).verify()
        guard let problem = report.problem else { return nil }
        guard problem.code == .corrupted, let place = problem.position else { throw problem }
        let path = WALInspector(fileSystem: fileSystem, directory: directory).directory
        let ids = try attempt { () throws(FileError) in
            try fileSystem.list(path).compactMap { LogNames.segmentID($0) }.sorted()
        }
        guard let oldest = ids.first, place.segment >= oldest,
            leavesSegment(place) || place.segment > oldest
        else { throw problem }
        return LogCut(
            place: place, problem: problem, loss: report.loss,
            segments: ids.filter {
                $0 > place.segment || $0 == place.segment && !leavesSegment(place)
            })
    }

    /// Whether the segment with the place stays, up to it.
    private static func leavesSegment(_ place: LogPosition) -> Bool {
        place.offset >= UInt64(SegmentFormat.firstFrameOffset)
    }

    /// Cuts the log here. Durable at return.
    ///
    /// - Parameters:
    ///   - directory: As in ``plan(_:directory:)``.
    ///   - kept: A directory for what is taken away; made if it is not there.
    /// - Throws: ``WALError``: `.locked` while a node runs there; `.ioFailed`, `.diskFull`: as far as it
    ///   came, the log is as damaged as it was.
    package func apply(
        _ fileSystem: any FileSystem, directory: String, keeping kept: String
    ) throws(WALError) {
        let directory = WALInspector(fileSystem: fileSystem, directory: directory).directory
        let lock = try attempt { () throws(FileError) in
            try fileSystem.lock(LogNames.join(directory, LogNames.lock))
        }
        defer { lock.release() }
        let newest = LogCut.leavesSegment(place) ? place.segment : place.segment - 1
        try attempt { () throws(FileError) in
            try fileSystem.createDirectory(kept)
            try fileSystem.syncDirectory(LogNames.parent(kept))
            var copied = [LogNames.mark]
            if newest == place.segment { copied.append(LogNames.segment(newest)) }
            for name in copied {
                try LogCut.copy(
                    fileSystem, LogNames.join(directory, name), LogNames.join(kept, name))
            }
            try fileSystem.syncDirectory(kept)

            let markFile = try fileSystem.open(LogNames.join(directory, LogNames.mark), .readWrite)
            defer { markFile.close() }
            if case .valid(var mark) = try LogMark.read(from: markFile), mark.newest > newest {
                try mark.advance(oldest: mark.oldest, newest: newest, in: markFile)
            }
            let later = try fileSystem.list(directory).compactMap { LogNames.segmentID($0) }
                .filter { $0 > newest }.sorted(by: >)
            for id in later {
                let name = LogNames.segment(id)
                try fileSystem.rename(
                    LogNames.join(directory, name), to: LogNames.join(kept, name))
                // The name's place is given up only once the other one is durable.
                try fileSystem.syncDirectory(kept)
                try fileSystem.syncDirectory(directory)
            }
            if newest == place.segment {
                try zeroTail(fileSystem, LogNames.join(directory, LogNames.segment(newest)))
            }
        }
    }

    /// Zeroes the segment from the place on, up to the size it must have.
    private func zeroTail(_ fileSystem: any FileSystem, _ path: String) throws(FileError) {
        let file = try fileSystem.open(path, .readWrite)
        defer { file.close() }
        var head = [UInt8](repeating: 0, count: SegmentFormat.firstFrameOffset)
        _ = try readFully(file, into: &head, at: 0)
        var capacity: UInt64 = 0
        for copy in 0..<2 {
            let decoded = head.withUnsafeBytes { bytes in
                bytes.baseAddress.map {
                    SegmentHeader.decode($0 + copy * FrameFormat.blockBytes)
                } ?? .invalid
            }
            if case .valid(let header) = decoded { capacity = header.capacity }
        }
        let blockBytes = UInt64(FrameFormat.blockBytes)
        // A file that was cut within a block: the block's frame is lost with it.
        let start = place.offset / blockBytes * blockBytes
        let end = max(try file.size(), capacity)
        let zeros = FrameBuffer(capacity: WALLimits.prepareChunkBytes)
        zeros.base.initializeMemory(
            as: UInt8.self, repeating: 0, count: WALLimits.prepareChunkBytes)
        var at = start
        while at < end {
            let count = min(end - at, UInt64(WALLimits.prepareChunkBytes))
            try file.writeDurably(
                UnsafeRawBufferPointer(start: zeros.base, count: Int(count)), at: at)
            at += count
        }
        try file.sync()
    }

    private static func copy(
        _ fileSystem: any FileSystem, _ source: String, _ target: String
    ) throws(FileError) {
        // A copy that an earlier attempt made may be cut off, or made after the zeroing had begun; but
        // it was whole before anything was changed, so that a whole one is kept.
        let from = try fileSystem.open(source, .read)
        defer { from.close() }
        let size = try from.size()
        if fileSystem.exists(target) {
            let old = try fileSystem.open(target, .read)
            defer { old.close() }
            if try old.size() >= size { return }
            try fileSystem.remove(target)
        }
        let partial = target + ".part"
        if fileSystem.exists(partial) { try fileSystem.remove(partial) }
        let to = try fileSystem.open(partial, .createNew)
        defer { to.close() }
        let chunk = FrameBuffer(capacity: WALLimits.prepareChunkBytes)
        var at: UInt64 = 0
        while at < size {
            let buffer = UnsafeMutableRawBufferPointer(
                start: chunk.base, count: Int(min(size - at, UInt64(WALLimits.prepareChunkBytes))))
            let count = try from.read(into: buffer, at: at)
            guard count > 0 else { break }
            try to.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: at)
            at += UInt64(count)
        }
        try to.sync()
        try fileSystem.rename(partial, to: target)
    }
}
