// Whether a log that was closed and opened again holds what it acknowledged.

import UkehiBase
import UkehiWAL

/// Compares a reopened log with what its appenders were told.
struct LogBenchVerification {
    let appenders: LogAppenders
    let payloads: LogPayloads

    /// Entries whose data is read back; the first and last index is compared for every region.
    private static let samples = 2000

    /// The first difference; nil: everything acknowledged is there.
    func difference(_ open: () throws(WALError) -> WriteAheadLog) -> String? {
        do throws(WALError) {
            // Recovery checks every checksum on the way.
            let log = try open()
            defer { log.stop() }
            return try difference(log)
        } catch {
            return "the log did not open again: \(error)"
        }
    }

    private func difference(_ log: WriteAheadLog) throws(WALError) -> String? {
        let (first, last) = (appenders.firstIndexes, appenders.lastIndexes)
        let expected = last.reduce(0, +)
        guard expected == appenders.acknowledged else {
            return "\(expected) entries were submitted, \(appenders.acknowledged) acknowledged"
        }
        for position in last.indices where last[position] > 0 {
            for index in Set([first[position], last[position]]) {
                if let wrong = try difference(log, position, index) { return wrong }
            }
            if let wrong = beyond(log, position, last[position]) { return wrong }
        }
        var random = BenchRandom(seed: 11)
        for _ in 0..<LogBenchVerification.samples {
            let position = Int(random.next(below: UInt64(last.count)))
            guard last[position] > 0 else { continue }
            let count = last[position] - first[position] + 1
            let index = first[position] + random.next(below: count)
            if let wrong = try difference(log, position, index) { return wrong }
        }
        return nil
    }

    private func difference(
        _ log: WriteAheadLog, _ position: Int, _ index: UInt64
    ) throws(WALError) -> String? {
        let region = LogPayloads.id(of: position)
        let found: [Entry]
        do throws(WALError) {
            found = try log.entries(
                region: region, from: LogIndex(index), to: LogIndex(index + 1), maxBytes: 1)
        } catch {
            guard error.code == .unavailable || error.code == .compacted else { throw error }
            return "entry \(index) of \(region) was acknowledged and is gone"
        }
        let expected = payloads.payload(region: position, index: index)
        guard found.count == 1, found[0].index.rawValue == index, found[0].data == expected else {
            return "entry \(index) of \(region) is not the one that was acknowledged"
        }
        return nil
    }

    /// Nothing may be there that was never submitted.
    private func beyond(_ log: WriteAheadLog, _ position: Int, _ last: UInt64) -> String? {
        let region = LogPayloads.id(of: position)
        let more = try? log.entries(
            region: region, from: LogIndex(last + 1), to: LogIndex(last + 2), maxBytes: 1)
        return more == nil ? nil : "\(region) has an entry past \(last) that nobody appended"
    }
}
