// Everything that can be said of a snapshot file, right or wrong: the tools' view.

package import UkehiEnvironment

/// What checking a whole snapshot found.
package struct SnapshotReport: Sendable, Hashable {
    /// A frame that cannot be used, though its header can.
    package struct LostFrame: Sendable, Hashable {
        package var number: UInt64
        package var offset: UInt64
        package var records: Int
    }
    /// Nil if the header cannot be read: then nothing can.
    package var header: SnapshotHeader?
    package var state: RegionState?
    package var fileBytes: UInt64 = 0
    package var soundFrames: UInt64 = 0
    /// Pairs in sound frames, and their bytes before and after compression.
    package var soundPairs: UInt64 = 0
    /// Sessions in sound frames.
    package var soundSessions: UInt64 = 0
    package var rawBytes: UInt64 = 0
    package var storedBytes: UInt64 = 0
    /// What the region's replicas have as their digest at this index, if the snapshot is sound.
    package var digest: StateDigest?
    /// The first thing that is wrong; nil: the snapshot is sound.
    package var problem: SnapshotError?
    package var lostFrames: [LostFrame] = []
    /// From this frame on nothing can be read; nil: the end was reached.
    package var lostFrom: UInt64?
}

extension SnapshotReport {
    /// Reads and checks all of a file; goes on behind a frame whose bytes are damaged.
    package static func verify(
        _ file: any File, onProgress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) -> SnapshotReport {
        var report = SnapshotReport()
        let reader: SnapshotFileReader
        do throws(SnapshotError) {
            reader = try SnapshotFileReader(file)
        } catch {
            report.problem = error
            report.lostFrom = 0
            return report
        }
        report.header = reader.header
        report.fileBytes = reader.fileBytes
        var isAtEnd = false
        while !isAtEnd {
            do throws(SnapshotError) {
                isAtEnd = try !report.addNext(reader)
            } catch {
                if report.problem == nil { report.problem = error }
                isAtEnd = !report.pass(reader, over: error)
            }
            onProgress(reader.offset, reader.fileBytes)
        }
        if report.problem != nil { report.digest = nil }
        return report
    }

    /// False at the end.
    private mutating func addNext(_ reader: SnapshotFileReader) throws(SnapshotError) -> Bool {
        guard let frame = try reader.next() else { return false }
        if let found = frame.state {
            state = found
            digest = StateDigest(found)
        }
        frame.forEachSession {
            digest?.mixSession($0, $1)
            soundSessions += 1
        }
        frame.forEachPair {
            digest?.mix($0)
            soundPairs += 1
        }
        soundFrames += 1
        rawBytes += UInt64(frame.info.rawBytes)
        storedBytes += UInt64(frame.info.storedBytes)
        return true
    }

    /// Whether reading can go on behind the frame that failed.
    private mutating func pass(_ reader: SnapshotFileReader, over error: SnapshotError) -> Bool {
        let number = reader.totals.frames
        let offset = reader.offset
        let records = reader.totals.records
        guard error.code == .damaged, error.frame == number,
            (try? reader.skip(to: number + 1)) != nil
        else {
            lostFrom = number
            return false
        }
        lostFrames.append(
            LostFrame(
                number: number, offset: offset, records: Int(reader.totals.records - records)))
        return true
    }
}
