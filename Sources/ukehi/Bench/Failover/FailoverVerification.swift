// Reading back what the writers of a failover run were told.

import Ukehi
import UkehiBase

/// Reads every key and compares: acknowledged writes are there, failed ones are not.
struct FailoverVerification: Sendable {
    let endpoints: [String]

    func run(_ writers: FailoverWriters, _ report: inout FailoverReport) async throws {
        let client = try Client(endpoints: endpoints)
        do {
            for writer in writers.writers { try await compare(writer, client, &report) }
        } catch {
            await client.stop()
            throw BenchFailure("The writes could not be read back: \(error)")
        }
        await client.stop()
    }

    private func compare(
        _ writer: FailoverWriter, _ client: Client, _ report: inout FailoverReport
    ) async throws {
        let prefix = writer.prefix
        let outcomes = writer.outcomes
        var isThere = [Bool](repeating: false, count: outcomes.count)
        // Numbers are digits, and ":" follows "9".
        var next: Bytes? = Bytes(prefix)
        let end = Bytes(prefix + [UInt8(ascii: ":")])
        while let from = next {
            let page = try await client.scan(
                from: from, to: end, limit: 5000, mode: .linearizable, timeout: .seconds(30))
            for pair in page.pairs {
                let text = String(
                    decoding: pair.key.array.dropFirst(prefix.count), as: UTF8.self)
                guard let number = Int(text), isThere.indices.contains(number),
                    pair.value == writer.value(number)
                else {
                    report.different += 1
                    continue
                }
                isThere[number] = true
            }
            next = page.next
        }
        for (outcome, isThere) in zip(outcomes, isThere) {
            if outcome == .acknowledged && !isThere { report.lost += 1 }
            if outcome == .failed && isThere { report.undead += 1 }
        }
    }
}
