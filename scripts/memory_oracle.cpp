// Prints what llama.cpp would allocate for a model, to the byte, without allocating it.
//
// llama.cpp has a mode of its own for this (no_alloc): model and context are built, the worst graphs are reserved against
// allocators that only measure, no weight is read. A configuration is one line of words `key=value` on stdin, the answer
// one line of JSON on stdout: bytes of each kind in each buffer type, and what the log says of the output buffer and caches.
//
// Only llama.h and ggml's headers are needed. The one function that is not in them is declared below, as libllama exports it.
// Devices beside the CPU are servers of ggml's RPC on the loopback, in processes of this program: the way that llama.cpp
// lays a model out over devices can so be had without any. Adapted from a tool made for this project's research.
//
// usage: memory_oracle BACKENDS [DEVICES PORT]
#include "ggml-backend.h"
#include "ggml-rpc.h"
#include "llama.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// In llama.cpp's src/llama-ext.h, which is not installed.
struct llama_memory_breakdown_data {
    size_t model;
    size_t context;
    size_t compute;
};
std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data> llama_get_memory_breakdown(const llama_context *);

static std::vector<std::string> told;

static void keep(ggml_log_level level, const char * text, void *) {
    const std::string line(text);
    const bool wanted = line.find("output buffer size") != line.npos || line.find(": size = ") != line.npos;
    if (wanted || level == GGML_LOG_LEVEL_ERROR) {
        std::string safe;
        for (const char c : line.substr(0, line.find('\n'))) {
            safe += c == '"' || c == '\\' || (unsigned char) c < ' ' ? '\'' : c;
        }
        told.push_back(safe);
    }
}

struct words {
    std::map<std::string, std::string> said;
    std::string text(const char * key, const char * other) const {
        const auto found = said.find(key);
        return found == said.end() ? other : found->second;
    }
    int number(const char * key, int other) const {
        const auto found = said.find(key);
        return found == said.end() ? other : std::stoi(found->second);
    }
};

static std::vector<std::string> parts(const std::string & text, char separator) {
    std::vector<std::string> found;
    std::stringstream stream(text);
    for (std::string one; std::getline(stream, one, separator);) {
        found.push_back(one);
    }
    return found;
}

static ggml_type type_named(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * one = ggml_type_name((ggml_type) i);
        if (one && name == one) {
            return (ggml_type) i;
        }
    }
    fprintf(stderr, "memory_oracle: unknown type %s\n", name.c_str());
    exit(2);
}

static std::vector<ggml_backend_dev_t> devices;

static void answer(const words & said) {
    told.clear();
    auto wants = llama_model_default_params();
    wants.no_alloc = true;
    wants.load_mode = LLAMA_LOAD_MODE_NONE;
    wants.n_gpu_layers = said.number("ngl", 0);
    wants.use_extra_bufts = said.number("repack", 0) != 0;
    std::vector<ggml_backend_dev_t> chosen(devices.begin(), devices.begin() + said.number("devices", 0));
    chosen.push_back(nullptr);
    wants.devices = chosen.data();
    std::vector<float> shares(llama_max_devices(), 0.0f);
    if (said.said.count("ts")) {
        size_t index = 0;
        for (const auto & share : parts(said.text("ts", ""), ',')) {
            shares[index++] = std::stof(share);
        }
        wants.tensor_split = shares.data();
    }
    const auto patterns = parts(said.text("cpu", ""), ';');  // tensors that stay on the CPU
    std::vector<llama_model_tensor_buft_override> overrides;
    for (const auto & pattern : patterns) {
        overrides.push_back({ pattern.c_str(), ggml_backend_cpu_buffer_type() });
    }
    overrides.push_back({ nullptr, nullptr });
    wants.tensor_buft_overrides = overrides.data();

    auto asks = llama_context_default_params();
    asks.n_ctx = said.number("ctx", 0);
    asks.n_batch = said.number("batch", 2048);
    asks.n_ubatch = said.number("ubatch", 512);
    asks.n_seq_max = said.number("parallel", 1);
    asks.kv_unified = said.number("unified", 0) != 0;
    asks.swa_full = said.number("swa_full", 0) != 0;
    asks.offload_kqv = said.number("kv_offload", 1) != 0;
    asks.embeddings = said.number("embeddings", 0) != 0;
    asks.type_k = type_named(said.text("ctk", "f16"));
    asks.type_v = type_named(said.text("ctv", "f16"));
    asks.flash_attn_type = (llama_flash_attn_type) said.number("flash", -1);
    // llama-server asks for one row of logits for each slot; with embeddings for a whole batch.
    asks.n_outputs_max = asks.embeddings ? 0 : asks.n_seq_max;
    if (asks.embeddings) {
        asks.n_batch = asks.n_ubatch;
    }

    llama_model * model = llama_model_load_from_file(said.text("model", "").c_str(), wants);
    llama_context * context = model ? llama_init_from_model(model, asks) : nullptr;
    printf("{");
    if (context) {
        printf("\"n_ctx\":%u,\"n_ctx_seq\":%u,\"n_ubatch\":%u,\"buffers\":{", llama_n_ctx(context),
               llama_n_ctx_seq(context), llama_n_ubatch(context));
        const char * comma = "";
        for (const auto & [type, data] : llama_get_memory_breakdown(context)) {
            printf("%s\"%s\":[%zu,%zu,%zu]", comma, ggml_backend_buft_name(type), data.model, data.context, data.compute);
            comma = ",";
        }
        printf("},");
    }
    printf("\"log\":[");
    const char * comma = "";
    for (const auto & line : told) {
        printf("%s\"%s\"", comma, line.c_str());
        comma = ",";
    }
    printf("]}\n");
    fflush(stdout);
    llama_free(context);
    llama_model_free(model);
}

int main(int argc, char ** argv) {
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: memory_oracle BACKENDS [DEVICES PORT]\n");
        return 2;
    }
    llama_log_set(keep, nullptr);
    ggml_backend_load_all_from_path(argv[1]);
    pid_t server = 0;
    if (argc == 4) {
        ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
        const std::string endpoint = std::string("127.0.0.1:") + argv[3];
        const size_t count = std::stoul(argv[2]);
        server = fork();
        if (server == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            freopen("/dev/null", "w", stdout);
            auto start = (decltype(&ggml_backend_rpc_start_server)) ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_start_server");
            std::vector<ggml_backend_dev_t> each(count, ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
            start(endpoint.c_str(), nullptr, 1, each.size(), each.data());
            _exit(1);
        }
        auto add = (decltype(&ggml_backend_rpc_add_server)) ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server");
        ggml_backend_reg_t found = nullptr;
        for (int i = 0; i < 100 && !found; i++) {
            usleep(50000);
            found = add(endpoint.c_str());
        }
        if (!found) {
            fprintf(stderr, "memory_oracle: no RPC server on %s\n", endpoint.c_str());
            return 1;
        }
        for (size_t i = 0; i < ggml_backend_reg_dev_count(found); i++) {
            devices.push_back(ggml_backend_reg_dev_get(found, i));
        }
    }
    llama_backend_init();
    for (std::string line; std::getline(std::cin, line);) {
        words said;
        for (const auto & word : parts(line, '\t')) {
            const auto split = word.find('=');
            said.said[word.substr(0, split)] = word.substr(split + 1);
        }
        answer(said);
    }
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, nullptr, 0);
    }
    return 0;
}
