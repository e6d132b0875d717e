// Filling a configuration: the file, over it the environment, over it the flags.
//
//   TOML file ──┐
//   UKEHI_… ────┼─→ a value per key, checked by its Setting ─→ checks of values together
//   --flags ────┘
//
// Nothing stops at the first fault: an operator repairs a file once, not once per run.

internal import TOMLKit

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#endif

extension Configuration {
    /// Reads a configuration.
    ///
    /// - Parameters:
    ///   - file: A TOML file; nil: the defaults.
    ///   - environment: Variables; only those named `UKEHI_<SECTION>_<KEY>` count. One that names
    ///     a known section and an unknown key is a fault.
    ///   - flags: Texts by key path, as `["raft.max_log_mb": "128"]`; they win.
    /// - Throws: Every fault at once.
    public static func load(
        file: String? = nil, environment: [String: String] = [:], flags: [String: String] = [:]
    ) throws(ConfigurationError) -> Configuration {
        var text = ""
        if let file {
            do { text = try readText(file) } catch {
                throw ConfigurationError(problems: [error])
            }
        }
        return try load(
            text: text, source: file ?? "", environment: environment, flags: flags)
    }

    /// The same from a file's text; `source` is how faults name it.
    public static func load(
        text: String, source: String = "", environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) throws(ConfigurationError) -> Configuration {
        var loader = Loader()
        loader.readFile(text, source: source)
        loader.readEnvironment(environment)
        loader.readFlags(flags)
        if loader.problems.isEmpty {
            loader.problems = loader.configuration.combinationProblems()
        }
        guard loader.problems.isEmpty else { throw ConfigurationError(problems: loader.problems) }
        return loader.configuration
    }

    /// A whole small file. Configuration is text a person wrote: 1 MiB of it is a mistake.
    private static func readText(_ path: String) throws(ConfigurationError.Problem) -> String {
        let limit = 1 << 20
        guard let stream = fopen(path, "re") else {
            throw .init(path: "", source: path, reason: String(cString: strerror(errno)))
        }
        defer { fclose(stream) }
        var bytes = [UInt8](repeating: 0, count: limit + 1)
        let count = fread(&bytes, 1, bytes.count, stream)
        guard ferror(stream) == 0 else {
            throw .init(path: "", source: path, reason: "it cannot be read")
        }
        guard count <= limit else {
            throw .init(path: "", source: path, reason: "over 1 MiB is no configuration")
        }
        guard let text = String(validating: bytes[..<count], as: UTF8.self) else {
            throw .init(path: "", source: path, reason: "it is not UTF-8 text")
        }
        return text
    }
}

extension ConfigurationError.Problem: Error {}

/// Collects values and faults.
private struct Loader {
    var configuration = Configuration()
    var problems: [ConfigurationError.Problem] = []

    // MARK: The file

    mutating func readFile(_ text: String, source: String) {
        let table: TOMLTable
        do { table = try TOMLTable(string: text) } catch let error as TOMLParseError {
            problems.append(
                .init(
                    path: "", source: source,
                    reason: "line \(error.source.begin.line), column \(error.source.begin.column): "
                        + error.description))
            return
        } catch {
            problems.append(.init(path: "", source: source, reason: "it is not TOML"))
            return
        }
        let sections = Set(Setting.all.map(\.section))
        for name in table.keys.sorted() {
            guard let value = table[name] else { continue }
            guard sections.contains(name) else {
                problems.append(
                    .init(
                        path: name, source: source,
                        reason: "there is no such section" + hint(name, among: sections.sorted())))
                continue
            }
            guard let section = value.table else {
                problems.append(
                    .init(
                        path: name, source: source, reason: "a \(value.type) stands for a section",
                        allowed: "[\(name)] and its keys"))
                continue
            }
            for key in section.keys.sorted() {
                guard let value = section[key] else { continue }
                set(section: name, key: key, value: value, source: source)
            }
        }
    }

    private mutating func set(
        section: String, key: String, value: any TOMLValueConvertible, source: String
    ) {
        guard let setting = Setting.all.first(where: { $0.section == section && $0.key == key })
        else {
            unknown("\(section).\(key)", source: source)
            return
        }
        var copy = configuration
        switch setting.kind {
        case .text(let path, _):
            guard let text = value.string else { break }
            copy[keyPath: path] = text
            return accept(copy, setting, source: source)
        case .texts(let path, _):
            guard let array = value.array else { break }
            let texts = array.map(\.string)
            guard texts.allSatisfy({ $0 != nil }) else { break }
            copy[keyPath: path] = texts.compactMap { $0 }
            return accept(copy, setting, source: source)
        case .integer(let path, _):
            guard let number = value.int else { break }
            copy[keyPath: path] = number
            return accept(copy, setting, source: source)
        case .fraction(let path, _):
            guard let number = value.double ?? value.int.map(Double.init) else { break }
            copy[keyPath: path] = number
            return accept(copy, setting, source: source)
        case .boolean(let path):
            guard let flag = value.bool else { break }
            copy[keyPath: path] = flag
            return accept(copy, setting, source: source)
        case .choice(let words, let set):
            guard let text = value.string else { break }
            guard words.contains(text) else {
                return refuse(setting, source: source, "\"\(text)\" is unknown")
            }
            set(&copy, text)
            return accept(copy, setting, source: source)
        }
        refuse(setting, source: source, "a value of the wrong type (\(value.type))")
    }

    // MARK: Texts: the environment and flags

    mutating func readEnvironment(_ environment: [String: String]) {
        let sections = Set(Setting.all.map { "UKEHI_\($0.section)_".uppercased() })
        for name in environment.keys.sorted() where sections.contains(where: name.hasPrefix) {
            guard let setting = Setting.all.first(where: { $0.variable == name }) else {
                let known = Setting.all.map(\.variable)
                problems.append(
                    .init(
                        path: "", source: name, reason: "no such key" + hint(name, among: known)))
                continue
            }
            set(setting, text: environment[name] ?? "", source: name)
        }
    }

    mutating func readFlags(_ flags: [String: String]) {
        for path in flags.keys.sorted() {
            guard let setting = Setting.all.first(where: { $0.path == path }) else {
                unknown(path, source: "flag")
                continue
            }
            set(setting, text: flags[path] ?? "", source: setting.flag)
        }
    }

    private mutating func set(_ setting: Setting, text: String, source: String) {
        var copy = configuration
        switch setting.kind {
        case .text(let path, _):
            copy[keyPath: path] = text
        case .texts(let path, _):
            copy[keyPath: path] = text.split(separator: ",").map { part in
                String(part.drop(while: \.isWhitespace).prefix(while: { !$0.isWhitespace }))
            }
        case .integer(let path, _):
            guard let number = Int(text) else {
                return refuse(setting, source: source, "\"\(text)\" is no integer")
            }
            copy[keyPath: path] = number
        case .fraction(let path, _):
            guard let number = Double(text) else {
                return refuse(setting, source: source, "\"\(text)\" is no number")
            }
            copy[keyPath: path] = number
        case .boolean(let path):
            guard let flag = Bool(text) else {
                return refuse(setting, source: source, "\"\(text)\" is neither true nor false")
            }
            copy[keyPath: path] = flag
        case .choice(let words, let set):
            guard words.contains(text) else {
                return refuse(setting, source: source, "\"\(text)\" is unknown")
            }
            set(&copy, text)
        }
        accept(copy, setting, source: source)
    }

    // MARK: Verdicts

    private mutating func accept(_ copy: Configuration, _ setting: Setting, source: String) {
        if var problem = setting.check(copy) {
            problem.source = source
            problems.append(problem)
        } else {
            configuration = copy
        }
    }

    private mutating func refuse(_ setting: Setting, source: String, _ reason: String) {
        problems.append(
            .init(path: setting.path, source: source, reason: reason, allowed: setting.allowed))
    }

    private mutating func unknown(_ path: String, source: String) {
        problems.append(
            .init(
                path: path, source: source,
                reason: "there is no such key" + hint(path, among: Setting.all.map(\.path))))
    }
}

/// `; did you mean raft.max_log_mb?`, when something known is near.
private func hint(_ word: String, among known: [String]) -> String {
    let near = known.map { (name: $0, distance: editDistance(word, $0)) }
        .min { ($0.distance, $0.name) < ($1.distance, $1.name) }
    guard let near, near.distance <= max(2, word.count / 3) else { return "" }
    return "; did you mean \(near.name)?"
}

/// How many bytes must be inserted, removed or replaced to make `a` into `b`.
private func editDistance(_ a: String, _ b: String) -> Int {
    // One row of the usual table; a word from outside is cut, so that the table stays small.
    let a = Array(a.utf8.prefix(128))
    let b = Array(b.utf8)
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            let replaced = diagonal + (x == y ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, diagonal + 1, row[j] + 1)
        }
    }
    return row[b.count]
}
