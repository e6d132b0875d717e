// One run: for each size a filled store, and in turns what is measured and its ceilings.

import Glibc
import Synchronization
import Ukehi
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiState

/// Carries out one run and clears away behind it.
struct SnapshotBenchRun {
    let settings: SnapshotBenchSettings
    /// Shows a line of progress.
    let say: (String) -> Void

    private static let region = RegionID(2)
    private static let epoch = RegionEpoch(confVersion: 1, version: 1)
    /// Its members; what they are does not matter here.
    private static let descriptor: Bytes = "members"
    private let fileSystem = POSIXFileSystem()

    init(settings: SnapshotBenchSettings, say: @escaping (String) -> Void) {
        self.settings = settings
        self.say = say
    }

    func run() throws -> SnapshotBenchReport {
        let parent = settings.directory ?? "bench-data"
        let directory = try DirectoryTree.createFresh(in: parent)
        let clear = { @Sendable in
            DirectoryTree.remove(directory)
            rmdir(parent)  // Stays when another run is in it.
        }
        let interruption = Interruption(clearing: clear)
        defer {
            clear()
            _ = interruption
        }
        var report = SnapshotBenchReport(settings: settings)
        for valueBytes in settings.valueBytes {
            report.rows.append(try measure(valueBytes, in: directory))
        }
        return report
    }

    private func measure(_ valueBytes: Int, in directory: String) throws -> SnapshotBenchRow {
        let records = RecordSource(bytes: settings.bytes, valueBytes: valueBytes)
        let name = "values of \(byteText(UInt64(valueBytes)))"
        let source = try open("\(directory)/source")
        defer { close(source, "\(directory)/source") }
        say("  \(name): filling a store with \(BenchFormat.count(Double(records.count))) records")
        let filling = ProgressLine("filling")
        try fill(source, records) { filling.show($0, of: UInt64(settings.bytes)) }
        filling.end()
        var row = SnapshotBenchRow(valueBytes: valueBytes, records: records.count)
        for round in 1...settings.rounds {
            say("  \(name): round \(round) of \(settings.rounds)")
            let progress = ProgressLine("measuring")
            let bytes = UInt64(settings.bytes)
            try measure(source, records, in: directory, &row) {
                progress.show(UInt64($0) * bytes, of: 5 * bytes)
            }
            progress.end()
        }
        return row
    }

    /// One round.
    private func measure(
        _ source: KeyValueApplier, _ records: RecordSource, in directory: String,
        _ row: inout SnapshotBenchRow, _ step: (Int) -> Void
    ) throws {
        var round = SnapshotBenchRound()
        let path = "\(directory)/region.snapshot"
        round.scan = try stretch { try scan(source) }
        step(1)
        var footer: SnapshotFooter?
        (footer, round.making) = try make(source, path)
        step(2)
        defer { try? fileSystem.remove(path) }
        let file = try fileSystem.open(path, .read)
        defer { file.close() }
        (round.compressing, round.decompressing) = try compress(file)
        step(3)
        round.building = try build(records, "\(directory)/built")
        step(4)
        let target = try open("\(directory)/target")
        defer { close(target, "\(directory)/target") }
        round.installing = try stretch {
            _ = try target.install(
                SnapshotFileReader(file), region: Self.region, descriptor: Self.descriptor)
        }
        round.isEqual =
            try target.digest(region: Self.region) == source.digest(region: Self.region)
        step(5)
        row.rawBytes = footer?.rawBytes ?? 0
        row.storedBytes = footer?.storedBytes ?? 0
        row.rounds.append(round)
    }

    // MARK: Stores

    private func open(_ directory: String) throws -> KeyValueApplier {
        try DirectoryTree.create(directory)
        var configuration = Configuration(directory: directory)
        configuration.storage.state = settings.state == .memory ? .memory : .rocksdb
        let applier = try configuration.openState()
        _ = try applier.open(
            region: Self.region, system: false, range: .all, epoch: Self.epoch)
        return applier
    }

    private func close(_ applier: KeyValueApplier, _ directory: String) {
        applier.close()
        DirectoryTree.remove(directory)
    }

    private func fill(
        _ applier: KeyValueApplier, _ records: RecordSource, _ progress: (UInt64) -> Void
    ) throws {
        let ingestion = try applier.store.makeIngestion(of: Self.region, .user, .all)
        var done: UInt64 = 0
        do {
            try records.forEachChunk { pairs throws(StateError) in
                try put(pairs, ingestion)
                done += UInt64(pairs.count * (RecordSource.keyBytes + records.valueBytes))
                progress(done)
            }
            try ingestion.finish(records.state, descriptor: Self.descriptor)
        } catch {
            ingestion.abandon()
            throw error
        }
        // So that the applier takes over what the store has.
        _ = try applier.open(
            region: Self.region, system: false, range: .all, epoch: Self.epoch)
    }

    private func put(
        _ pairs: [StoredEntry], _ ingestion: any StateIngestion
    ) throws(StateError) {
        for entry in pairs {
            try ingestion.put(
                entry.key, entry.value, version: entry.version, expiresAt: entry.expiresAt)
        }
    }

    // MARK: What is measured

    private func stretch(_ body: () throws -> Void) throws -> Stretch {
        let start = Stretch.now()
        try body()
        return Stretch.now() - start
    }

    /// The store's own reading: every pair is visited.
    private func scan(_ applier: KeyValueApplier) throws {
        let view = try applier.store.openView(tier: .once)
        defer { view.close() }
        var bytes = 0
        try view.scan(.user, from: Bytes(), to: Bytes()) { entry in
            bytes &+= entry.key.count + entry.value.count
            return true
        }
        invariant(bytes > 0, "a scan of nothing")
    }

    /// As a node makes one, on two threads. Its processor time is that of the busier one: what it would take
    /// if each always had a processor.
    private func make(
        _ applier: KeyValueApplier, _ path: String
    ) throws -> (SnapshotFooter, Stretch) {
        let worker = ThreadWorker(name: "ukehi-compress")
        let spent = ThreadTime()
        var made: Result<SnapshotFooter, any Error>?
        var taken = try stretch {
            made = Result { try make(applier, path, worker) }
        }
        worker.run { spent.processor.store(Stretch.now().processor, ordering: .relaxed) }
        worker.stop()
        taken.processor = max(taken.processor, spent.processor.load(ordering: .relaxed))
        guard let made else { throw BenchFailure("A snapshot was not begun.") }
        return (try made.get(), taken)
    }

    private func make(
        _ applier: KeyValueApplier, _ path: String, _ compressing: any Worker
    ) throws -> SnapshotFooter {
        var writer: SnapshotFileWriter?
        do {
            try applier.writeSnapshot(of: Self.region) { state, _ in
                let header = SnapshotHeader(
                    snapshot: 1, cluster: ClusterID(high: 1, low: 1), region: Self.region,
                    range: .all,
                    members: [SnapshotMember(peer: PeerID(3), node: NodeID(1), roles: .voter)],
                    state: state)
                let made = try SnapshotFileWriter(
                    fileSystem, path: path, header, state: state,
                    options: SnapshotOptions(compressingWorker: compressing))
                writer = made
                return made.encoder
            }
            guard let writer else { throw BenchFailure("A snapshot was not begun.") }
            return try writer.finish()
        } catch {
            writer?.abandon()
            throw error
        }
    }

    /// What zstd alone takes for all frames, both ways.
    private func compress(_ file: any File) throws -> (Stretch, Stretch) {
        let reader = try SnapshotFileReader(file)
        let compressor = ZstdCompressor(level: SnapshotOptions().compressionLevel)
        let decompressor = ZstdDecompressor()
        var room = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        defer { room.deallocate() }
        var (compressing, decompressing) = (Stretch(), Stretch())
        while let frame = try reader.next() {
            if room.count < frame.raw.count {
                room.deallocate()
                room = .allocate(byteCount: frame.raw.count, alignment: 16)
            }
            let target = UnsafeMutableRawBufferPointer(rebasing: room[..<frame.raw.count])
            frame.raw.withUnsafeBytes { raw in
                let start = Stretch.now()
                let stored = compressor.compress(raw)
                let middle = Stretch.now()
                let isWhole = decompressor.decompress(stored, into: target)
                decompressing += Stretch.now() - middle
                compressing += middle - start
                invariant(isWhole, "zstd does not give back what it was given")
            }
        }
        return (compressing, decompressing)
    }

    /// What writing the store's files takes, without a snapshot that they come from.
    private func build(_ records: RecordSource, _ directory: String) throws -> Stretch {
        let applier = try open(directory)
        defer { close(applier, directory) }
        let ingestion = try applier.store.makeIngestion(of: Self.region, .user, .all)
        defer { ingestion.abandon() }
        var taken = Stretch()
        try records.forEachChunk { pairs throws(StateError) in
            let start = Stretch.now()
            try put(pairs, ingestion)
            taken += Stretch.now() - start
        }
        return taken
    }
}

/// What a thread has used of a processor, told at its end.
private final class ThreadTime: Sendable {
    let processor = Atomic<UInt64>(0)
}
