// What a log's bytes are spent on: segments, regions, batches, frames.
//
//   segment | headers | live | dead, and padding of frames | free: prepared, never written in this life |
//
// Live is what recovery would serve: bodies and directory items of entries that count, and the items
// of each region's newest hard state, beginning, and birth or tombstone.

package import UkehiBase
import UkehiEnvironment

extension WALInspector {
    /// How one segment's bytes are used.
    package struct SegmentUse: Sendable, Hashable {
        package var segment: UInt64
        package var fileBytes: UInt64
        /// Up to the end of its last frame.
        package var usedBytes: UInt64 = 0
        package var liveBytes: UInt64 = 0
        package var frames: UInt64 = 0
        package var freeBytes: UInt64 { fileBytes - min(fileBytes, usedBytes) }
        package var deadBytes: UInt64 { usedBytes - min(usedBytes, liveBytes) }
    }

    /// What one region keeps in the log.
    package struct RegionUse: Sendable, Hashable {
        package var region: RegionID
        package var liveBytes: UInt64 = 0
        package var entries: UInt64 = 0
        package var firstIndex: LogIndex
        package var lastIndex: LogIndex
        /// The oldest segment that its entries are in; nil: it has none.
        package var oldestSegment: UInt64?
        /// Bytes of its entries in the log's oldest segment: while there are any, that cannot go.
        package var pinningBytes: UInt64 = 0
    }

    /// What ``stat()`` found.
    package struct StatReport: Sendable, Hashable {
        /// Oldest first.
        package var segments: [SegmentUse] = []
        /// Of the segment that is being prepared; 0: there is none.
        package var preparedBytes: UInt64 = 0
        /// Of the reserve for a start on a full volume; 0: there is none.
        package var reservedBytes: UInt64 = 0
        /// Of dead segments whose files wait to be used again, or to be removed.
        package var idleBytes: UInt64 = 0
        /// Those with the most live bytes first.
        package var regions: [RegionUse] = []
        /// Regions without entries in the oldest segment, but with a state there, which purging
        /// writes again.
        package var statesInOldest = 0
        package var frames: UInt64 = 0
        package var claims: UInt64 = 0
        package var batches: UInt64 = 0
        package var entries: UInt64 = 0
        package var frameBytes: UInt64 = 0
        /// Zeros that fill frames up to whole blocks.
        package var paddingBytes: UInt64 = 0
        /// Batches by body bytes: bucket `i` counts those of 2^i..<2^(i+1).
        package var batchBytes = PowerBuckets()
        /// Batches by entries, in the same way; those without any are not counted.
        package var batchEntries = PowerBuckets()
        /// Frames by how much of them is not padding: bucket `i` counts i/10..<(i+1)/10.
        package var frameFill = [UInt64](repeating: 0, count: 10)
        /// Bodies that are compressed, and the bytes of all bodies: decompressed, and as stored.
        package var compressedBatches: UInt64 = 0
        package var rawBytes: UInt64 = 0
        package var bodyBytes: UInt64 = 0
        /// Compressed bodies by what is left of them: bucket `i` counts i/10..<(i+1)/10.
        package var compressionRatio = [UInt64](repeating: 0, count: 10)
        package var problem: WALError?

        /// Those that hold the oldest segment back, the ones with the most bytes in it first.
        package var pinning: [RegionUse] {
            regions.filter { $0.pinningBytes > 0 }.sorted {
                ($1.pinningBytes, $0.region) < ($0.pinningBytes, $1.region)
            }
        }
    }

    /// Counts what the log's bytes are spent on; checks every checksum on the way.
    package func stat() -> StatReport {
        settled {
            var report = StatReport()
            do throws(WALError) {
                try stat(&report)
            } catch {
                report.problem = error
            }
            return (report, report.problem)
        }
    }

    private func stat(_ report: inout StatReport) throws(WALError) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        var progress = ReadProgress(found, onProgress)
        for position in found.segments.indices {
            let segment = found.segments[position]
            progress.begin(position)
            var use = SegmentUse(segment: segment.id, fileBytes: segment.bytes)
            let end = try replay.read(
                segment, successor: found.successor(of: position)
            ) { (frame) throws(WALError) in
                progress.read(frame)
                use.frames += 1
                report.count(frame)
            }
            use.usedBytes = end.offset
            report.segments.append(use)
        }
        try replay.finish()
        report.preparedBytes = size(LogNames.next)
        report.reservedBytes = size(LogNames.reserve)
        report.idleBytes = found.removable.reduce(0) { $0 + size(LogNames.segment($1)) }
        for slot in 0..<replay.regions.count { report.count(replay.regions[slot]) }
        report.regions.sort { ($1.liveBytes, $0.region) < ($0.liveBytes, $1.region) }
    }

    /// The size of a file that may vanish at any time; 0 once it has.
    private func size(_ name: String) -> UInt64 {
        let path = LogNames.join(directory, name)
        guard let file = try? fileSystem.open(path, .read) else { return 0 }
        defer { file.close() }
        return (try? file.size()) ?? 0
    }
}

extension WALInspector.StatReport {
    fileprivate mutating func count(_ frame: FrameView) {
        let header = frame.header
        frames += 1
        if header.isClaim { claims += 1 }
        let repeated =
            FrameFormat.repeats(itemCount: header.itemCount) ? header.directoryBytes : 0
        let filled = header.bodyStart + header.bodyBytes + repeated
        frameBytes += UInt64(header.frameBytes)
        paddingBytes += UInt64(header.frameBytes - filled)
        frameFill[min(filled * 10 / max(header.frameBytes, 1), 9)] += 1
        for item in frame.items {
            batches += 1
            entries += UInt64(item.count)
            batchBytes.add(UInt64(item.bodyBytes))
            if item.count > 0 { batchEntries.add(UInt64(item.count)) }
            if item.isCompressed {
                compressedBatches += 1
                compressionRatio[min(Int(item.bodyBytes) * 10 / Int(item.rawBytes), 9)] += 1
            }
            rawBytes += UInt64(item.rawBytes)
            bodyBytes += UInt64(item.bodyBytes)
        }
    }

    fileprivate mutating func count(_ log: RegionLog) {
        var use = WALInspector.RegionUse(
            region: log.region, firstIndex: log.firstIndex, lastIndex: log.staged.lastIndex)
        let oldest = segments.first?.segment
        for block in log.index.live {
            let bytes = UInt64(block.bodyBytes) + UInt64(FrameFormat.itemBytes)
            let segment = UInt64(block.segment)
            add(bytes, to: segment)
            use.liveBytes += bytes
            use.entries += block.end - max(block.first, log.firstIndex.rawValue)
            // Where entries were written again, blocks are not in log order.
            use.oldestSegment = min(use.oldestSegment ?? segment, segment)
            if segment == oldest { use.pinningBytes += bytes }
        }
        // A state often stands in an item that is counted already; what that adds is 80 bytes.
        let states = Set([log.hardStateSegment, log.baseSegment, log.identitySegment])
        for segment in states where segment != 0 {
            add(UInt64(FrameFormat.itemBytes), to: UInt64(segment))
            use.liveBytes += UInt64(FrameFormat.itemBytes)
        }
        if let oldest, segments.count > 1, use.pinningBytes == 0, log.hasState(in: oldest) {
            statesInOldest += 1
        }
        if segments.count < 2 { use.pinningBytes = 0 }
        regions.append(use)
    }

    private mutating func add(_ bytes: UInt64, to segment: UInt64) {
        guard let first = segments.first?.segment, segment >= first,
            segment - first < UInt64(segments.count)
        else { return }
        segments[Int(segment - first)].liveBytes += bytes
    }
}
