// The end of every run: is what was acknowledged really there, on all replicas alike?
//
//   1  every key that was written, read back from its leader: the last acknowledged version, with
//      exactly the bytes that were written
//   2  every region's digest, from every node, at one applied index: equal
//   3  what the clients saw on the way: no read older than a write acknowledged before it
//
// Without a state store (`--state none`) there is nothing to read: 2 alone, over digests of the log.

import UkehiBase
import UkehiNode
import UkehiState

/// Checks a load that has ended.
struct Verification: Sendable {
    let settings: BenchSettings
    let workload: Workload
    let clients: [any LoadClients]
    /// One per node; of connections to a running cluster, one per endpoint.
    let targets: [RequestTarget]

    private static let deadlineSeconds = 60.0

    /// Runs all checks; the first difference ends them.
    func run() async throws -> VerificationResult {
        let written = mergedRecord()
        if let violation = clients.lazy.compactMap({ $0.withTally { $0.violation } }).first {
            return VerificationResult(summary: "clients saw it", difference: violation)
        }
        var result = VerificationResult(summary: "")
        if settings.state != .none {
            let (count, difference) = try await readBack(written)
            result.keysRead = count
            result.difference = difference
            guard difference == nil else { return result }
        }
        let (regions, difference) = try await compareDigests()
        result.regionsCompared = regions
        result.difference = difference
        result.summary = summary(result)
        return result
    }

    private func summary(_ result: VerificationResult) -> String {
        let regions =
            "\(BenchFormat.count(Double(result.regionsCompared))) regions have equal digests on "
            + "\(targets.count) \(targets.count == 1 ? "node" : "nodes")"
        if settings.state == .none { return "log digests: \(regions)" }
        return "all \(BenchFormat.count(Double(result.keysRead))) written keys read back with "
            + "their last value; \(regions)"
    }

    private func mergedRecord() -> WriteRecord {
        let table = AckTable(count: workload.keyCount)
        var unknown = UnknownWrites()
        for client in clients {
            client.withTally { tally in
                table.merge(tally.table)
                unknown.merge(tally.unknown)
            }
        }
        return WriteRecord(table: table, unknown: unknown, workload: workload)
    }

    // MARK: Reading back

    private func readBack(_ written: WriteRecord) async throws -> (Int, String?) {
        var left: [(number: Int, key: Bytes)] = []
        let inputKeys: [Bytes]
        if case .input = workload.source { inputKeys = workload.allKeys() } else { inputKeys = [] }
        for number in 0..<workload.keyCount
        where written.table[number].version > 0 || written.unknown.touches(key: number) {
            left.append((number, workload.generatedKey(number) ?? inputKeys[number]))
        }
        let count = left.count
        let deadline = BenchClock.now() + UInt64(Verification.deadlineSeconds * 1e9)
        while !left.isEmpty {
            var refused: [(number: Int, key: Bytes)] = []
            for (target, keys) in try await share(left) {
                let (difference, again) = await ReadBack(
                    target: target, written: written, keys: keys
                ).run()
                if let difference { return (count, difference) }
                refused += again
            }
            left = refused
            if left.isEmpty { break }
            guard BenchClock.now() < deadline else {
                return (count, "\(left.count) written keys could not be read within 60 s")
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        return (count, nil)
    }

    /// Each key to the target whose node leads its region, as the nodes now say.
    private func share(
        _ keys: [(number: Int, key: Bytes)]
    ) async throws -> [(RequestTarget, [(number: Int, key: Bytes)])] {
        var shares: [(RequestTarget, [(number: Int, key: Bytes)])] = []
        var left = keys
        let isGenerated = if case .generated = workload.source { true } else { false }
        for target in targets {
            guard let topology = await target.topology() else { continue }
            let owned = OwnedKeys(node: topology.node, topology: topology, workload: workload)
            var mine: [(number: Int, key: Bytes)] = []
            var others: [(number: Int, key: Bytes)] = []
            for key in left {
                if isGenerated
                    ? owned.contains(generated: UInt64(key.number))
                    : owned.contains(key.key)
                {
                    mine.append(key)
                } else {
                    others.append(key)
                }
            }
            left = others
            shares.append((target, mine))
        }
        // Led by nobody just now, or by a node that is not among the endpoints: anyone may say.
        if !left.isEmpty, let any = targets.first { shares.append((any, left)) }
        return shares
    }

    // MARK: Digests

    private func compareDigests() async throws -> (Int, String?) {
        guard let first = targets.first, let topology = await first.topology() else {
            return (0, "no node tells its regions")
        }
        let deadline = BenchClock.now() + UInt64(Verification.deadlineSeconds * 1e9)
        var left = topology.regions
        var late = ""
        while !left.isEmpty {
            var unequal: [RegionInfo] = []
            for region in left {
                var digests: [RegionDigest] = []
                for target in targets {
                    let reply = await OneAnswer.ask(.digest, key: region.range.lower, of: target)
                    if case .digest(let digest) = reply { digests.append(digest) }
                }
                guard digests.count == targets.count, let one = digests.first,
                    digests.allSatisfy({ $0.applied == one.applied })
                else {
                    unequal.append(region)
                    late = digests.map { "\($0.applied)" }.joined(separator: ", ")
                    continue
                }
                if digests.contains(where: { $0.high != one.high || $0.low != one.low }) {
                    return (
                        topology.regions.count,
                        "the replicas of region \(region.region) differ, all at applied index "
                            + "\(one.applied)"
                    )
                }
            }
            left = unequal
            guard let region = left.first else { break }
            guard BenchClock.now() < deadline else {
                return (
                    topology.regions.count,
                    "the replicas of region \(region.region) did not reach one applied index "
                        + "within 60 s: \(late)"
                )
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        return (topology.regions.count, nil)
    }
}
